"""A small detector from nothing but generated icons: the stages of the recipe ``icons``.

captions   images of icons with a caption each -> both towers
regions    boxes of base classes, and captions -> the image tower
proposals  boxes of base classes without their names -> proposal network
"""

from copy import deepcopy

from regionclip.data.icons.batches import BoxBatches, CaptionBatches, PairedBatches
from regionclip.methods.regionclip.learners import CaptionLearner, ProposalLearner, RegionLearner
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.reading import ReadModel, save_model
from regionclip.recipes import IconsRecipe
from regionclip.training.checkpoints import MODEL
from regionclip.training_run import Run


def train_icons(recipe: IconsRecipe, run: Run) -> None:
    """Generated icons: captions, then regions of base classes, then proposals."""
    model = RegionClip(recipe.model)
    captions = CaptionLearner(model.encoder)
    regions = RegionLearner(captions, recipe.model)
    run.icons("captions", captions, caption_batches(recipe), recipe.captions)
    run.icons("regions", regions, region_batches(recipe), recipe.regions)
    if model.proposer is not None:
        proposals = ProposalLearner(model.proposer, recipe.model)
        run.icons("proposals", proposals, proposal_batches(recipe), recipe.proposals)
    half = ReadModel(deepcopy(model).half(), has_text_tower=True, reports=())
    run.on_main(lambda: save_model(run.folder / MODEL, half))


def caption_batches(recipe: IconsRecipe) -> CaptionBatches:
    """What the captions stage sees."""
    return CaptionBatches(
        seed=recipe.run.seed,
        num_batches=recipe.captions.steps,
        batch_size=recipe.captions.batch_size,
        image_sizes=recipe.caption_image_sizes,
        scene_share=recipe.scene_share,
    )


def region_batches(recipe: IconsRecipe) -> PairedBatches:
    """What the regions stage sees: boxes, and captions of other images than before."""
    stage = recipe.regions
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
