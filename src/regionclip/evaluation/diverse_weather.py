"""Diverse Weather: trained by day, tested in five weathers, by VOC's and by COCO's rules."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from regionclip.concepts.class_names import builtin_names, plain_name
from regionclip.data.datasets import Category, Dataset
from regionclip.structures import Detections

from .coco import DIFFICULT_COUNT
from .counts import boxes_by_class, split_counts
from .curves import CurveOptions, compute_curves
from .naming import with_categories
from .report import ClassFigures, EvaluationReport, SplitCounts, Table, mean_of, percent
from .voc import eleven_point_ap, positive_labels, voc_verdicts

SOURCE = "daytime_clear"
"""The only domain that is trained on; papers call it daytime-sunny."""
TARGETS = ("night_sunny", "dusk_rainy", "night_rainy", "daytime_foggy")
"""The domains that are never trained on, in the papers' order.

Source:
    vidit09/domaingen ``data/datasets/diverse_weather.py``.
"""
DOMAINS = (SOURCE, *TARGETS)
CLASSES = "diverse_weather7"
FEW_BOXES = 100
"""Below this many boxes of a class in a domain its figure is noise, and the table says the number:
among the published sets that concerns motor (49) and rider (71) in night_rainy."""
RULES = {"voc07": "VOC-07, 11 points", "coco": "COCO, 101 points"}

TargetList = Literal["train", "test"]
"""Which list of a target domain is its test set.

``train`` is what the published figures use: nobody trains on targets, so that their larger list is
free; the source is always tested on its ``test``.

Source:
    WoojuLee24/OA-DG ``configs/_base_/datasets/s-dgod.py``.
"""
WEATHER_PROMPTS: Mapping[str, tuple[str, ...]] = {
    "daytime_clear": ("a photo of a {} on a sunny day.", "a photo of a {} in daylight."),
    "night_sunny": ("a photo of a {} at night.", "a photo of a {} on a clear night."),
    "dusk_rainy": ("a photo of a {} in the rain at dusk.", "a photo of a {} on a rainy evening."),
    "night_rainy": ("a photo of a {} on a rainy night.", "a photo of a {} in the rain at night."),
    "daytime_foggy": ("a photo of a {} in the fog.", "a photo of a {} on a foggy day."),
}
"""Prompts that say the domain's weather; ours."""


def list_of(domain: str, target_list: TargetList) -> str:
    """The list that a domain is tested on."""
    return "test" if domain == SOURCE else target_list


def with_same_classes(datasets: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """The data sets with one list of classes: the seven in their order, then others that occur.

    A class without an object in a domain may be missing from its files.
    """
    seven = builtin_names(CLASSES)
    found: dict[str, Category] = {}
    for dataset in datasets.values():
        for category in dataset.categories:
            found.setdefault(plain_name(category.name), category)
    keys = [*(name for name in seven if name in found), *(key for key in found if key not in seven)]
    categories = [replace(found[key], id=number) for number, key in enumerate(keys, start=1)]
    by_key = {plain_name(each.name): each for each in categories}
    return {
        domain: with_categories(_as_named(dataset, by_key), categories)
        for domain, dataset in datasets.items()
    }


def evaluate_diverse_weather(
    datasets: Mapping[str, Dataset], detections: Mapping[str, Iterable[Detections]]
) -> EvaluationReport:
    """AP50 per class and domain under two rules, and the mean over the target domains.

    Args:
        datasets: By domain, of :data:`DOMAINS`; some may be missing.
        detections: By domain, as the protocols of one data set take them.

    Raises:
        ValueError: A domain is unknown, or detections are missing or of other classes.

    Source:
        Single-DGOD (Wu & Deng, CVPR 2022). The published figures are VOC-07's: vidit09/domaingen
        sets the year 2007, which makes detectron2 compute 11 points.
    """
    unknown = [domain for domain in datasets if domain not in DOMAINS]
    if unknown or not datasets:
        raise ValueError(
            f"{unknown[0]!r} is no domain of Diverse Weather; expected {', '.join(DOMAINS)}"
            if unknown
            else f"there is no domain of Diverse Weather; expected {', '.join(DOMAINS)}"
        )
    missing = [domain for domain in datasets if domain not in detections]
    if missing:
        raise ValueError(f"there are no detections of the domain {missing[0]}")
    datasets = with_same_classes(datasets)
    domains = [domain for domain in DOMAINS if domain in datasets]
    parts = [_evaluate_domain(datasets[domain], detections[domain]) for domain in domains]
    targets = [part for domain, part in zip(domains, parts, strict=True) if domain in TARGETS]
    metrics = {}
    for rule in RULES:
        for domain, part in zip(domains, parts, strict=True):
            metrics[f"{rule}_{domain}"] = part.metrics[rule]
        metrics[f"{rule}_targets"] = mean_of([part.metrics[rule] for part in targets])
    return EvaluationReport(
        protocol="diverse-weather",
        sentence=(
            "Diverse Weather: AP at IoU 0.5, mean over the classes that have boxes in a domain, by "
            "VOC-07's rule (11 points, IoU above 0.5, difficult objects left out; the published "
            "figures' rule) and by COCO's (101 points, the best 100 detections of a class in an "
            f"image); targets is the mean over {len(targets)} domains that are never trained on."
        ),
        source=", ".join(datasets[domain].source for domain in domains),
        num_images=sum(part.num_images for part in parts),
        splits=tuple(_renamed(part, domain) for part, domain in zip(parts, domains, strict=True)),
        metrics=metrics,
        classes=_classes(domains, parts),
        tables=tuple(_class_table(rule, domains, parts) for rule in RULES),
        notes=_notes(domains, parts),
        parts=tuple(parts),
    )


def compare_prompts(reports: Mapping[str, EvaluationReport]) -> EvaluationReport:
    """One report of several on the same data, a row for each way of writing the names.

    Args:
        reports: By what the prompts are called; the first one's figures keep their names, those of
            the others end with theirs.
    """
    first_name, first = next(iter(reports.items()))
    metrics = dict(first.metrics)
    for name, report in reports.items():
        if name != first_name:
            key = name.replace(" ", "_")
            metrics |= {f"{figure}_{key}": share for figure, share in report.metrics.items()}
    tables = [
        Table(
            f"AP50 by prompts ({text})",
            ("prompts", *_columns(first, rule)),
            tuple(
                (
                    name,
                    *(percent(report.metrics[f"{rule}_{each}"]) for each in _columns(first, rule)),
                )
                for name, report in reports.items()
            ),
        )
        for rule, text in RULES.items()
    ]
    tables += [
        replace(table, title=f"{table.title}, {name}")
        for name, report in reports.items()
        for table in report.tables
    ]
    parts = tuple(
        replace(part, source=f"{part.source} ({name})")
        for name, report in reports.items()
        for part in report.parts
    )
    return replace(first, metrics=metrics, tables=tuple(tables), parts=parts)


def _columns(report: EvaluationReport, rule: str) -> list[str]:
    """Domains and ``targets``, as figures of a rule are called."""
    start = f"{rule}_"
    return [name.removeprefix(start) for name in report.metrics if name.startswith(start)]


def _evaluate_domain(dataset: Dataset, detections: Iterable[Detections]) -> EvaluationReport:
    found = tuple(detections)  # read twice
    verdicts = voc_verdicts(dataset, found)
    options = CurveOptions(ious=(0.5,), areas=("all",), max_detections=(100,))
    by_rule = {
        "voc07": [eleven_point_ap(each) for each in verdicts],
        "coco": compute_curves(dataset, found, options).ap().tolist(),
    }
    num_boxes = boxes_by_class(dataset, positive_labels)
    return EvaluationReport(
        protocol="diverse-weather",
        sentence="AP at IoU 0.5 by VOC-07's rule and by COCO's, mean over the classes with boxes.",
        source=dataset.source,
        num_images=len(dataset),
        splits=split_counts(dataset, labels_of=positive_labels),
        metrics={rule: mean_of(values) for rule, values in by_rule.items()},
        classes=tuple(
            ClassFigures(
                category.name,
                "",
                num_boxes[label],
                {rule: values[label] for rule, values in by_rule.items()},
            )
            for label, category in enumerate(dataset.categories)
        ),
    )


def _as_named(dataset: Dataset, by_key: Mapping[str, Category]) -> Dataset:
    """The data set with each class's name as all domains write it from here on."""
    categories = [
        replace(each, name=by_key[plain_name(each.name)].name) for each in dataset.categories
    ]
    return replace(dataset, categories=tuple(categories))


def _renamed(part: EvaluationReport, domain: str) -> SplitCounts:
    return replace(part.splits[0], name=domain)


def _classes(domains: Sequence[str], parts: Sequence[EvaluationReport]) -> tuple[ClassFigures, ...]:
    """One row per class, its figures by rule and domain."""
    rows = []
    for own in zip(*(part.classes for part in parts), strict=True):
        metrics = {
            f"{rule}_{domain}": each.metrics[rule]
            for rule in RULES
            for domain, each in zip(domains, own, strict=True)
        }
        rows.append(ClassFigures(own[0].name, "", sum(each.num_boxes for each in own), metrics))
    return tuple(rows)


def _class_table(rule: str, domains: Sequence[str], parts: Sequence[EvaluationReport]) -> Table:
    """Classes by domains, with the number of boxes where it is small."""
    rows = [
        (own[0].name, *(_cell(each, rule) for each in own))
        for own in zip(*(part.classes for part in parts), strict=True)
    ]
    rows.append(("mean", *(percent(part.metrics[rule]) for part in parts)))
    return Table(f"AP50 by class and domain ({RULES[rule]})", ("class", *domains), tuple(rows))


def _cell(figures: ClassFigures, rule: str) -> str:
    few = f" ({figures.num_boxes} boxes)" if 0 < figures.num_boxes < FEW_BOXES else ""
    return percent(figures.metrics[rule]) + few


def _notes(domains: Sequence[str], parts: Sequence[EvaluationReport]) -> tuple[str, ...]:
    notes = []
    if len(domains) < len(DOMAINS):
        absent = ", ".join(domain for domain in DOMAINS if domain not in domains)
        notes.append(f"Not evaluated: {absent}.")
    few = [
        f"{figures.name} in {domain} ({figures.num_boxes})"
        for domain, part in zip(domains, parts, strict=True)
        for figures in part.classes
        if 0 < figures.num_boxes < FEW_BOXES
    ]
    if few:
        notes.append(f"Fewer than {FEW_BOXES} boxes, so that AP is noise: {', '.join(few)}.")
    notes.append(DIFFICULT_COUNT)
    return tuple(notes)
