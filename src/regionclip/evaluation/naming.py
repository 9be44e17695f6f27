"""Classes by their names, never by their place in a list: whose label is whose, and which count."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import torch

from regionclip.concepts.class_names import builtin_names, plain_name
from regionclip.data.datasets import Category, Dataset, Objects, Sample, Split


def label_finder(dataset: Dataset) -> Callable[[tuple[str, ...]], tuple[int, ...]]:
    """A function from a vocabulary to the data set's label of each of its names.

    It raises a ``ValueError`` for a vocabulary with a name that the data set does not have, or
    without one that it has: absent classes would count as missed. Names are compared as written,
    then as :func:`plain_name` has them.
    """
    by_name = {name: label for label, name in enumerate(dataset.class_names)}
    by_plain_name: dict[str, list[int]] = {}
    for name, label in by_name.items():
        by_plain_name.setdefault(plain_name(name), []).append(label)

    @cache
    def labels_of(class_names: tuple[str, ...]) -> tuple[int, ...]:
        labels = []
        for name in class_names:
            similar = by_plain_name.get(plain_name(name), [])
            label = by_name.get(name, similar[0] if len(similar) == 1 else None)
            if label is None:
                raise ValueError(
                    f"the detections have a class {name!r}, which is none of the "
                    f"{len(dataset.categories)} classes of {dataset.source} "
                    f"({_listed(dataset.class_names)}); name it as the data does, map it with a "
                    "file of synonyms, or leave its detections out"
                )
            labels.append(label)
        missing = set(range(len(dataset.categories))) - set(labels)
        if missing:
            raise ValueError(
                f"the detections were not asked for {dataset.class_names[min(missing)]!r} "
                f"({len(missing)} of the {len(dataset.categories)} classes of {dataset.source}); "
                "detect with all names of the data, or evaluate fewer classes"
            )
        return tuple(labels)

    return labels_of


def with_categories(dataset: Dataset, categories: Sequence[Category]) -> Dataset:
    """The same images, with another list of classes; objects of classes not in it are gone.

    Args:
        dataset: Unchanged.
        categories: Known by their names; those that the data set lacks have no boxes.
    """
    new_labels = {each.name: label for label, each in enumerate(categories)}
    label_map = [new_labels.get(name, -1) for name in dataset.class_names]
    samples = tuple(_relabelled(sample, label_map) for sample in dataset)
    return replace(dataset, categories=tuple(categories), samples=samples)


def restricted_to(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The same images, with these classes only, in this order.

    Raises:
        ValueError: One is not among the data set's.
    """
    known = {each.name: each for each in dataset.categories}
    plain = {plain_name(each.name): each for each in dataset.categories}
    chosen = [known.get(name, plain.get(plain_name(name))) for name in names]
    for name, category in zip(names, chosen, strict=True):
        if category is None:
            raise ValueError(
                f"{name!r} is none of the {len(known)} classes of {dataset.source} "
                f"({_listed(dataset.class_names)})"
            )
    return with_categories(dataset, [each for each in chosen if each is not None])


def with_splits(dataset: Dataset) -> Dataset:
    """The base and novel classes of a data set, each knowing which it is.

    A data set that says so itself is believed, and its classes of neither split are left out. Else
    COCO's names tell: 48 base, 17 novel; the other 15 of COCO's 80 belong to neither.

    Raises:
        ValueError: The data set says nothing, and its names are not COCO's.

    Source:
        OVR-CNN (arXiv:2011.10678), the split of 48 and 17 classes.
    """
    if any(each.split for each in dataset.categories):
        return with_categories(dataset, [each for each in dataset.categories if each.split])
    lists: Mapping[Split, str] = {"base": "coco48", "novel": "coco17"}
    split_of = {plain_name(name): split for split in lists for name in builtin_names(lists[split])}
    chosen = [
        replace(each, split=split_of[plain_name(each.name)])
        for each in dataset.categories
        if plain_name(each.name) in split_of
    ]
    if {each.split for each in chosen} != {"base", "novel"}:
        raise ValueError(
            f"{dataset.source} does not say which classes are base and which novel, and its names "
            "are not COCO's; write a split into it ('regionclip data split')"
        )
    return with_categories(dataset, chosen)


def only_split(dataset: Dataset, split: Split) -> Dataset:
    """The classes of one split alone, as :func:`with_splits` tells them.

    Raises:
        ValueError: No class is of that split.
    """
    dataset = with_splits(dataset)
    chosen = [each for each in dataset.categories if each.split == split]
    if not chosen:
        raise ValueError(f"{dataset.source} has no {split} class")
    return with_categories(dataset, chosen)


def only_annotated(dataset: Dataset) -> Dataset:
    """The images that have an annotated object, as some originals evaluate."""
    samples = tuple(sample for sample in dataset if len(sample.objects))
    return replace(dataset, samples=samples)


def _relabelled(sample: Sample, label_map: Sequence[int]) -> Sample:
    objects = sample.objects
    new = torch.tensor([label_map[label] for label in objects.labels.tolist()], dtype=torch.int64)
    rows = (new >= 0).nonzero()[:, 0]
    kept = rows.tolist()

    def taken(values: tuple) -> tuple:
        return tuple(values[row] for row in kept) if values else ()

    def mapped(labels: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(label_map[label] for label in labels if label_map[label] >= 0)

    return replace(
        sample,
        objects=Objects(
            boxes=objects.boxes[rows],
            labels=new[rows],
            is_crowd=objects.is_crowd[rows],
            is_difficult=objects.is_difficult[rows],
            segmentations=taken(objects.segmentations),
            ids=taken(objects.ids),
            areas=None if objects.areas is None else objects.areas[rows],
            is_stuff=None if objects.is_stuff is None else objects.is_stuff[rows],
            is_pseudo=None if objects.is_pseudo is None else objects.is_pseudo[rows],
        ),
        negative_labels=mapped(sample.negative_labels),
        not_exhaustive_labels=mapped(sample.not_exhaustive_labels),
    )


def _listed(names: Sequence[str], num_shown: int = 5) -> str:
    shown = ", ".join(names[:num_shown])
    return f"{shown}, ..." if len(names) > num_shown else shown
