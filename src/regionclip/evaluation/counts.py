"""How many classes, images and boxes figures rest on."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from regionclip.data.datasets import Category, Dataset, Objects

from .report import SplitCounts


def counted_labels(objects: Objects) -> list[int]:
    """Labels of the objects that count under COCO's rules: all but crowds."""
    return objects.labels[~objects.is_crowd].tolist()


def boxes_by_class(
    dataset: Dataset, labels_of: Callable[[Objects], Iterable[int]] = counted_labels
) -> list[int]:
    """Boxes that count, by label."""
    counts = Counter(label for sample in dataset for label in labels_of(sample.objects))
    return [counts[label] for label in range(len(dataset.categories))]


def split_counts(
    dataset: Dataset,
    group_of: Callable[[Category], str] = lambda category: category.split,
    labels_of: Callable[[Objects], Iterable[int]] = counted_labels,
) -> tuple[SplitCounts, ...]:
    """Counts of all classes, then of each group that classes say they belong to.

    Args:
        dataset: What is counted.
        group_of: A class's group; "" for none.
        labels_of: The objects that count, by label.
    """
    present = [list(labels_of(sample.objects)) for sample in dataset]
    groups = [group_of(each) for each in dataset.categories]
    named = dict.fromkeys(each for each in groups if each)
    all_labels = range(len(groups))
    return (
        _counts("all", all_labels, present),
        *(
            _counts(name, [label for label in all_labels if groups[label] == name], present)
            for name in named
        ),
    )


def _counts(name: str, labels: Iterable[int], present: Sequence[Sequence[int]]) -> SplitCounts:
    chosen = set(labels)
    per_image = [sum(label in chosen for label in own) for own in present]
    return SplitCounts(name, len(chosen), sum(map(bool, per_image)), sum(per_image))
