"""What a run trains on and is measured on, refused before it starts if it cannot be used."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from regionclip.concepts.class_names import plain_name
from regionclip.data.datasets import Dataset, Member, Objects, Sample
from regionclip.data.readers import open_dataset
from regionclip.data.readers.yolo_folders import is_yolo
from regionclip.data.sources import find_images
from regionclip.data.stored_boxes import open_stored_boxes
from regionclip.encoders.text import TextEncoder
from regionclip.evaluation.finding import prompt_names
from regionclip.evaluation.naming import only_annotated, with_categories
from regionclip.evaluation.watching import watched
from regionclip.proposals.proposer import Proposer
from regionclip.recipes import PretrainRecipe, TransferRecipe
from regionclip.recipes.clim import ClimRecipe, PseudoLabelRecipe
from regionclip.recipes.settings import DataSource, NovelBoxes
from regionclip.vocabulary import Vocabulary

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """What to learn from, and what to measure on, if anything."""

    train: Dataset
    val: Dataset | None


def open_training_data(source: DataSource, *, max_val_images: int | None = None) -> TrainingData:
    """Read and check the data sets of a recipe.

    Raises:
        ValueError: A path is wrong, a set is empty, an image is missing, or a class that is marked
            novel has boxes from people, or from a model unless the recipe takes them.
    """
    train = _opened_with_boxes(source)
    _check_novel_boxes(train, source.novel_boxes)
    train = _with_boxes_only(train)
    if not source.keep_empty:
        train = only_annotated(train)
    _check_images(train, "data.image_root")
    if not source.val:
        return TrainingData(train, None)
    val = _opened(source.val, source.val_split, source.val_image_root)
    _check_images(val, "data.val_image_root")
    num_shared = len(_files(train) & _files(val))
    if num_shared:
        LOGGER.warning(
            "%d images of %s are trained on too: its figures are better than of new images",
            num_shared,
            val.source,
        )
    base = [each.name for each in train.categories if each.split != "novel"]
    return TrainingData(train, watched(val, base, max_images=max_val_images))


def open_val(recipe: PretrainRecipe | ClimRecipe) -> Dataset | None:
    """Read and check what a run on captions is measured on, if anything.

    Raises:
        ValueError: A path is wrong, the set is empty, or an image is missing.
    """
    source = DataSource(
        val=recipe.val, val_split=recipe.val_split, val_image_root=recipe.val_image_root
    )
    return measured_on(source, max_images=recipe.measuring.max_images)


def measured_on(source: DataSource, *, max_images: int | None) -> Dataset | None:
    """Read and check what a run is measured on that trains on no classes of its own, if anything.

    Raises:
        ValueError: A path is wrong, the set is empty, or an image is missing.
    """
    if not source.val:
        return None
    val = _opened(source.val, source.val_split, source.val_image_root)
    _check_images(val, "val_image_root")
    if len(val) == 0:
        raise ValueError(f"{val.source} has no image to measure on; leave out val")
    return replace(val, samples=val.samples[:max_images])


def open_images(source: DataSource) -> Dataset:
    """Images to train on without a word about them: a folder of photographs will do.

    Args:
        source: Its ``train`` is a folder, a pattern, or a COCO json.

    Raises:
        ValueError: There is no such thing, or no image in it.
    """
    if not source.train:
        raise ValueError("the recipe names no images to train on; set data.train, or give --data")
    samples = tuple(
        Sample(each.name, each.file, each.name)
        for each in find_images([source.train], image_root=source.image_root)
    )
    images = Dataset(source.train, (), samples)
    _check_images(images, "data.image_root")
    return images


def proposed_boxes(source: str | None, images: Dataset) -> Proposer | None:
    """Boxes that were stored for images to train on, looked up by the images' names.

    Args:
        source: A folder or file of boxes; see
            :func:`~regionclip.data.stored_boxes.open_stored_boxes`.
        images: What they must be of.

    Returns:
        ``None`` without a source.

    Raises:
        ValueError: They cannot be read, or are of other images.
    """
    if source is None:
        return None
    boxes = open_stored_boxes(source)
    num_listed = sum(boxes.lists(each.name) for each in images)
    if num_listed == 0:
        raise ValueError(
            f"data.proposals {source} lists none of the {len(images)} images of {images.source} "
            f"(such as {images[0].name}); run 'regionclip propose' on them"
        )
    if num_listed < len(images):
        LOGGER.warning(
            "%s lists %d of the %d images of %s; of the others no box is known",
            source,
            num_listed,
            len(images),
            images.source,
        )
    return boxes


def open_boxes(source: DataSource) -> Dataset:
    """Images with boxes to train on, whatever they are called.

    Raises:
        ValueError: A path is wrong, there is no box, or an image is missing.
    """
    train = _opened_with_boxes(source)
    _check_images(train, "data.image_root")
    return train if source.keep_empty else only_annotated(train)


def _opened_with_boxes(source: DataSource) -> Dataset:
    if not source.train:
        raise ValueError("the recipe names no data to train on; set data.train, or give --data")
    train = _opened(source.train, source.train_split, source.image_root)
    if train.num_boxes == 0:
        raise ValueError(
            f"{train.source} has no box to train on ({len(train)} images, "
            f"{len(train.categories)} classes); only clipself needs none, on grids or with "
            "data.proposals"
        )
    return train


def training_vocabulary(
    recipe: TransferRecipe | PseudoLabelRecipe, train: Dataset, text: TextEncoder, *, width: int
) -> Vocabulary:
    """Vectors of the classes to train, from the recipe's file or from their names.

    Args:
        recipe: Says where they come from.
        train: Its classes.
        text: Encodes names.
        width: Numbers in a vector of a region.

    Raises:
        ValueError: The file has more, fewer, or wider rows, or there is no text tower.
    """
    if recipe.class_embeddings is not None:
        given = Vocabulary.from_embedding_file(
            recipe.class_embeddings, train.class_names, encoder_id=text.encoder_id
        )
        if given.embeddings.shape[1] != width:
            raise ValueError(
                f"{recipe.class_embeddings} has rows of {given.embeddings.shape[1]} numbers, and "
                f"regions of {recipe.start} have {width}; it was made with another encoder"
            )
        return given
    return encoded_classes(train.class_names, text, templates=recipe.templates)


def encoded_classes(names: Sequence[str], text: TextEncoder, *, templates: str) -> Vocabulary:
    """Vectors of names as prompts read them, under the names that the data set writes."""
    encoded = Vocabulary.from_names(prompt_names(names), text, templates=templates)
    return Vocabulary(tuple(names), encoded.embeddings, encoded.templates, encoded.encoder_id)


def test_vocabulary(
    trained: Vocabulary, val: Dataset | None, text: TextEncoder, *, templates: str
) -> Vocabulary:
    """The trained classes, and behind them those that are measured on and were not trained."""
    known = {plain_name(name) for name in trained.names}
    names = () if val is None else val.class_names
    novel = [name for name in names if plain_name(name) not in known]
    if not novel:
        return trained
    others = encoded_classes(novel, text, templates=templates)
    return Vocabulary(
        (*trained.names, *others.names),
        torch.cat([trained.embeddings, others.embeddings]),
        trained.templates,
        trained.encoder_id,
    )


def _opened(path: str, split: str, image_root: str | None) -> Dataset:
    """A data set; a file with annotations is one split already."""
    has_splits = not Path(path).is_file() or is_yolo(Path(path))
    return open_dataset(path, image_root=image_root, split=split if has_splits else None)


def _check_novel_boxes(train: Dataset, novel_boxes: NovelBoxes) -> None:
    """Refuse boxes of novel classes that are people's, or all of them."""
    labels = torch.cat([sample.objects.labels for sample in train])
    is_pseudo = torch.cat([_is_pseudo(sample.objects) for sample in train])
    by_people, by_model = (
        torch.bincount(labels[rows], minlength=len(train.categories)).tolist()
        for rows in (~is_pseudo, is_pseudo)
    )
    for category, own, found in zip(train.categories, by_people, by_model, strict=True):
        if category.split != "novel":
            continue
        if own:
            raise ValueError(
                f"{train.source}: class {category.name!r} is marked novel and has {own} boxes from "
                "people (not marked is_pseudo), which training must not see; train on the base "
                "classes' file that 'regionclip data split' writes, or on what 'regionclip data "
                "pseudo-label' makes of it"
            )
        if found and novel_boxes == "refused":
            raise ValueError(
                f"{train.source}: class {category.name!r} is marked novel and has {found} boxes "
                "that a model made; set data.novel_boxes = 'pseudo' to train on them"
            )


def _is_pseudo(objects: Objects) -> torch.Tensor:
    none = torch.zeros(len(objects), dtype=torch.bool)
    return none if objects.is_pseudo is None else objects.is_pseudo


def _with_boxes_only(train: Dataset) -> Dataset:
    """Without classes that have no box, which every region would be pushed away from."""
    labels = torch.cat([sample.objects.labels for sample in train]).unique().tolist()
    kept = [train.categories[label] for label in labels]
    left_out = [each.name for each in train.categories if each not in kept]
    if not left_out:
        return train
    LOGGER.warning(
        "%s: %d classes have no box and are not trained (%s)",
        train.source,
        len(left_out),
        ", ".join(left_out[:5]),
    )
    return with_categories(train, kept)


def _files(dataset: Dataset) -> set[Path | Member]:
    return {sample.image for sample in dataset}


def _check_images(dataset: Dataset, setting: str) -> None:
    files = {each.archive if isinstance(each, Member) else each for each in _files(dataset)}
    missing = sorted(str(path) for path in files if not path.is_file())
    if missing:
        raise ValueError(
            f"{dataset.source}: {len(missing)} of {len(files)} image files are not there (first: "
            f"{missing[0]}); set {setting} to their folder, or see 'regionclip data check'"
        )
