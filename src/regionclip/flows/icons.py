"""A small detector from nothing but generated icons: the stages of the recipe ``icons``.

    captions     images of icons with a caption each -> both towers
    regions      boxes of base classes, and captions -> the image tower
    proposals    boxes of base classes without their names -> proposal network
    pretraining  scenes with a caption each, and proposals -> the image tower

Which of them a recipe has is its own matter. The recipe ``icons-vit`` has captions alone, for a
vision transformer.
"""

from collections import Counter
from copy import deepcopy

from torch import nn

from regionclip.concepts.noun_phrases import noun_phrases
from regionclip.data.icons.batches import (
    BoxBatches,
    CaptionBatches,
    CaptionedScenes,
    PairedBatches,
    captions_of_scenes,
)
from regionclip.encoders.clip_resnet import ClipResNet
from regionclip.encoders.unlocking import module_of
from regionclip.flows.models import clip_with_text, selecting
from regionclip.flows.run import Run
from regionclip.loading import region_embedder
from regionclip.methods.clim.caption_learner import CaptionLearner as VitCaptionLearner
from regionclip.methods.clim.model import Clim
from regionclip.methods.clim.reading import save_model as save_vit
from regionclip.methods.regionclip.learners import CaptionLearner, ProposalLearner, RegionLearner
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.pretrain import PretrainLearner, Teacher
from regionclip.methods.regionclip.reading import ReadModel, save_model
from regionclip.methods.regionclip.students import ResNetStudent
from regionclip.recipes import IconsRecipe
from regionclip.recipes.icons import IconsVitRecipe
from regionclip.regions.resized import ResizedRegions
from regionclip.training import Optimization
from regionclip.training.averaging import interpolated_weights
from regionclip.training.checkpoints import MODEL
from regionclip.vocabulary import Vocabulary

IMAGE_TOWER = "clip.visual."


def train_icons(recipe: IconsRecipe, run: Run) -> None:
    """Generated icons: the stages that the recipe has, one after another."""
    model = RegionClip(recipe.model)
    captions = CaptionLearner(model.encoder)
    run.icons("captions", captions, caption_batches(recipe), recipe.captions)
    # as the captions leave it: the later stages move the image tower
    as_captioned = deepcopy(model.encoder).eval().requires_grad_(False)
    if recipe.regions is not None:
        regions = RegionLearner(captions, recipe.model, background_weight=recipe.background_weight)
        run.icons("regions", regions, region_batches(recipe, recipe.regions), recipe.regions)
        if recipe.weight_ensemble is not None:
            ends = as_captioned.to(run.device).state_dict(), model.encoder.state_dict()
            mixed = interpolated_weights(*ends, share_of_end=recipe.weight_ensemble)
            model.encoder.load_state_dict(mixed)
    if model.proposer is not None:
        proposals = ProposalLearner(model.proposer, recipe.model)
        run.icons("proposals", proposals, proposal_batches(recipe), recipe.proposals)
    if recipe.pretraining is not None:
        plan = recipe.pretraining.optimization
        learner = pretraining_of(model, as_captioned, recipe, run)
        run.icons("pretraining", learner, captioned_scenes(recipe, plan), plan)
    half = ReadModel(deepcopy(model).half(), has_text_tower=True, reports=())
    run.on_main(lambda: save_model(run.folder / MODEL, half))


def train_icons_vit(recipe: IconsVitRecipe, run: Run) -> None:
    """Generated icons with captions -> a small CLIP with a vision transformer."""
    model = Clim(recipe.model)
    if recipe.text_weights is not None:
        take_text_tower(model.encoder, recipe.text_weights)
    learner = VitCaptionLearner(model.encoder, trains_text=recipe.text_weights is None)
    plan = recipe.captions
    batches = CaptionBatches(
        seed=recipe.run.seed,
        num_batches=plan.steps,
        batch_size=plan.batch_size,
        image_sizes=recipe.caption_image_sizes,
        scene_share=recipe.scene_share,
        num_images=recipe.caption_images,
        day_share=recipe.day_share,
    )
    run.icons("captions", learner, batches, plan)
    run.on_main(lambda: save_vit(run.folder / MODEL, model))


def take_text_tower(encoder: nn.Module, source: str) -> None:
    """Give a CLIP the text tower of another one, in place, with its scale.

    Args:
        encoder: Whose image tower stays.
        source: Known name or file of a model with a text tower.

    Raises:
        ValueError: The towers are of different shapes.
    """
    other = module_of(clip_with_text(source).encoder).state_dict()
    text = {name: each for name, each in other.items() if not name.startswith(IMAGE_TOWER)}
    own = encoder.state_dict()
    wanted = {name: each for name, each in own.items() if not name.startswith(IMAGE_TOWER)}
    if {name: each.shape for name, each in text.items()} != {
        name: each.shape for name, each in wanted.items()
    }:
        raise ValueError(
            f"the text tower of {source} (text_weights) is of another shape than model's; give "
            "embed_dim, text_width, text_heads, text_layers, context_length and vocab_size of it"
        )
    encoder.load_state_dict(own | text)


def pretraining_of(
    model: RegionClip, teacher: ClipResNet, recipe: IconsRecipe, run: Run
) -> PretrainLearner:
    """The learner of the pretraining stage, with the concepts of captions such as it will see.

    Args:
        model: Its encoder is the student, its trained proposer gives regions.
        teacher: The encoder before.
        recipe: With pretraining.
        run: Its device and seed.

    Raises:
        ValueError: The recipe has no pretraining, or the model no proposer.
    """
    settings = recipe.pretraining
    if settings is None or model.proposer is None:
        raise ValueError("pretraining icons needs the settings [pretraining] and [model.rpn]")
    captions = captions_of_scenes(settings.pool_captions, seed=recipe.run.seed + 4_000)
    counts = Counter(each for caption in captions for each in noun_phrases(caption))
    names = sorted(name for name, count in counts.items() if count >= settings.pool_min_count)
    teacher = teacher.to(run.device)
    concepts = Vocabulary.from_names(names, teacher, templates=recipe.model.templates).embeddings
    embedder = region_embedder(teacher, settings.teacher_regions)
    if settings.teacher_shortest_side is not None:
        embedder = ResizedRegions(embedder, shortest_side=settings.teacher_shortest_side)
    return PretrainLearner(
        # the text tower was not trained since: both towers read concepts alike
        ResNetStudent(model.encoder, settings.learner),
        concepts,
        Teacher(embedder, concepts),
        selecting(model.proposer, settings.selection),
        settings.learner,
    )


def captioned_scenes(recipe: IconsRecipe, plan: Optimization) -> CaptionedScenes:
    """What the pretraining stage sees: scenes of other seeds than before, with captions alone."""
    return CaptionedScenes(
        seed=recipe.run.seed + 4_000,
        num_batches=plan.steps,
        batch_size=plan.batch_size,
        shortest_side=recipe.model.shortest_side,
    )


def caption_batches(recipe: IconsRecipe) -> CaptionBatches:
    """What the captions stage sees."""
    return CaptionBatches(
        seed=recipe.run.seed,
        num_batches=recipe.captions.steps,
        batch_size=recipe.captions.batch_size,
        image_sizes=recipe.caption_image_sizes,
        scene_share=recipe.scene_share,
    )


def region_batches(recipe: IconsRecipe, stage: Optimization) -> PairedBatches:
    """What the regions stage sees: boxes, and captions of other images than before."""
    captions = CaptionBatches(
        seed=recipe.run.seed + 1_000,
        num_batches=stage.steps,
        batch_size=recipe.region_captions,
        image_sizes=recipe.caption_image_sizes,
        scene_share=recipe.scene_share,
    )
    boxes = BoxBatches(
        seed=recipe.run.seed + 2_000, num_batches=stage.steps, batch_size=stage.batch_size
    )
    return PairedBatches(captions, boxes)


def proposal_batches(recipe: IconsRecipe) -> BoxBatches:
    """What the proposals stage sees."""
    stage = recipe.proposals
    return BoxBatches(
        seed=recipe.run.seed + 3_000, num_batches=stage.steps, batch_size=stage.batch_size
    )
