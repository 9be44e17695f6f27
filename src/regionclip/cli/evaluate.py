"""``regionclip evaluate``: how well a model, or a file of detections, does by a named protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional

from regionclip.cli.console import UsageError
from regionclip.cli.detecting import DetectingOptions
from regionclip.cli.evaluate_finders import Finder, Prompts
from regionclip.cli.evaluate_sets import SINGLE
from regionclip.cli.options import check_counts, optional, value

if TYPE_CHECKING:
    from regionclip.data.datasets import Dataset
    from regionclip.detect import DetectOptions, Detector
    from regionclip.evaluation.expectations import Expectation
    from regionclip.evaluation.protocols import Protocol
    from regionclip.evaluation.report import EvaluationReport

ProtocolName = Literal[
    "coco",
    "ov-coco",
    "ov-coco-novel",
    "ov-coco-base",
    "lvis",
    "lvis-masks",
    "region-accuracy",
    "given-boxes",
    "region-macc",
    "mask-macc",
    "crop-macc",
    "voc07",
    "voc12",
    "proposals",
    "diverse-weather",
    "odinw",
]
PAPER = "paper"
NEED_DATA = (
    "protocol",
    "split",
    "detections",
    "also_named",
    "synonyms",
    "classes",
    "class_names",
)
OWN_NAMES, SYNONYMS, WEATHER = "own names", "synonyms", "weather prompts"


@dataclass(frozen=True, kw_only=True)
class Evaluate(DetectingOptions):
    """Measure a model, or detections from a file, by a named protocol.

    Without --data the model is examined on new icon scenes. Images that cannot be read count as
    images in which nothing was found, are named, and make the exit code 1.

    For example:

        regionclip evaluate icons --num-scenes 200

        regionclip evaluate regionclip-cc-rn50 --data val.json --protocol ov-coco --output results

        regionclip evaluate --detections found/results.json --data val.json --protocol coco

        torchrun --nproc_per_node 8 -m regionclip evaluate MODEL --data val.json --output results
    """

    model: Annotated[Positional[str], optional("MODEL")] = ""
    """Name or file of a model; 'icons' if there is neither --data nor --detections."""
    data: Annotated[str | None, optional("SOURCE")] = None
    """The data set: a COCO or LVIS json, or a folder of Pascal VOC, YOLO or COCO jsons. For
    diverse-weather a folder of domains, for odinw a folder of data sets."""
    protocol: Annotated[ProtocolName | None, optional("NAME")] = None
    """coco (the default); ov-coco (base, novel, all), ov-coco-novel, ov-coco-base; lvis and
    lvis-masks; region-accuracy, given-boxes; region-macc, mask-macc, crop-macc; voc07, voc12;
    proposals; diverse-weather; odinw."""
    split: Annotated[str | None, optional("NAME")] = None
    """Part of a folder to evaluate on, such as test."""
    detections: Annotated[Path | None, optional("FILE")] = None
    """Evaluate these detections, without a model: COCO results, or detections.json or
    detections.parquet of 'regionclip detect'. For several data sets a folder with a file each."""
    other_names: Literal["refuse", "drop"] = "refuse"
    """What to do with detections of classes that the data does not have."""
    also_named: Annotated[str | None, optional("NAMES|FILE|LIST")] = None
    """Names to look for beside the data's, as for --classes: they compete with these for every box,
    and are not judged. 'coco80' with ov-coco is what F-VLM's published figures are of."""
    synonyms: Annotated[str | None, optional("FILE")] = None
    """A text with lines such as 'bike = bicycle': what to call the data's classes. diverse-weather
    reports its own names and the synonyms; 'diverse_weather7' and 'coco_panoptic' (plain words for
    'floor-other-merged' and its like) are built in."""
    weather_prompts: bool = False
    """For diverse-weather: also report prompts that say the domain's weather."""
    target_list: Literal["train", "test"] = "train"
    """For diverse-weather: which list of the target domains is their test set. The published
    figures use train; the source is always tested on its list test."""
    boxes: Literal["proposals", "truth"] = "proposals"
    """Let the model find boxes, or give it the annotated ones."""
    images: Literal["all", "annotated"] = "all"
    """All images of the data, or only those with an annotation, as some originals do."""
    expect: Annotated[str | None, optional("FIGURES")] = None
    """What should come out, in percent: 'ap50_novel=31.4', or 'paper' for what was published of
    --recipe. A figure that is off makes the exit code 1."""
    recipe: Annotated[str | None, optional("NAME")] = None
    """Whose published figures to expect, such as regionclip-ov-coco-rn50."""
    tolerance: Annotated[float, value("POINTS")] = 0.5
    """How far a figure may be off, above or below, in percentage points."""
    output: Annotated[Path | None, optional("FOLDER")] = None
    """Folder for report.json and report.md, and for what a run that was stopped goes on with."""
    per_class: bool = False
    """Also print one row per class."""
    num_scenes: Annotated[int, value("N")] = 200
    """Icon scenes to draw and detect in."""
    seed: Annotated[int, value("N")] = 1_000_000
    """Of the icon scenes; whatever it is, none of them was drawn for training."""
    domain: Literal["day", "night", "dusk_rain", "night_rain", "fog"] = "day"
    """Light and weather of the icon scenes."""

    def run(self) -> int:
        """Detect or read detections, compare, print."""
        self._check()
        return self._run_icons() if self.data is None else self._run_data(self.data)

    def _run_icons(self) -> int:
        from regionclip.cli.console import progress
        from regionclip.evaluation.icons import evaluate_icons

        expectations = self._expectations("icons")
        model = replace(self, model=self.model or "icons")
        detector, _ = model.open_model()
        with progress("Detecting", self.num_scenes) as advance:
            report = evaluate_icons(
                detector,
                num_scenes=self.num_scenes,
                seed=self.seed,
                domain=self.domain,
                progress=advance,
            )
        return 0 if self._give(report, {"model": model.model}, expectations) else 1

    def _run_data(self, source: str) -> int:
        from regionclip.cli.evaluate_sets import DataOptions, check_images, open_sets

        protocol = self.protocol or "coco"
        expectations = self._expectations(protocol)
        opening = DataOptions(
            image_root=self.image_root, split=self.split, target_list=self.target_list
        )
        sets = self._with_classes(open_sets(source, protocol, opening), protocol)
        if self.detections is None:
            check_images(sets)
        all_prompts = self._all_prompts(sets, protocol)
        finder, subject = self._finder(protocol)
        report = self._report(sets, all_prompts, finder, protocol)
        if report is None:
            return 0  # the main process reports, and its exit code tells
        is_met = self._give(report, subject, expectations)
        return 0 if finder.is_complete and is_met else 1

    def _give(
        self,
        report: "EvaluationReport",
        subject: Mapping[str, Any],
        expectations: "Sequence[Expectation]",
    ) -> bool:
        """Print and write a report; whether it says what was expected."""
        from regionclip.cli.evaluate_report import show_report, show_table, write_report
        from regionclip.evaluation.expectations import compare, comparison_table

        comparisons = compare(report, expectations, self.tolerance)
        show_report(report, per_class=self.per_class)
        if comparisons:
            show_table(comparison_table(comparisons))
        if self.output is not None:
            write_report(self.output, report, subject, comparisons)
        return all(each.is_met for each in comparisons)

    def _report(
        self,
        sets: "Mapping[str, Dataset]",
        all_prompts: Sequence[Prompts],
        finder: Finder,
        protocol: str,
    ) -> "EvaluationReport | None":
        """The report; ``None`` in processes that only help."""
        from regionclip.evaluation.diverse_weather import compare_prompts
        from regionclip.evaluation.naming import only_annotated
        from regionclip.evaluation.protocols import COLLECTIONS, PROTOCOLS

        reports: dict[str, EvaluationReport] = {}
        chosen = dict(sets)
        if self.images == "annotated":
            chosen = {name: only_annotated(dataset) for name, dataset in sets.items()}
        for prompts in all_prompts:
            found = {
                name: finder.find(name, dataset, sets[name], prompts)
                for name, dataset in chosen.items()
            }
            if not finder.is_main:
                continue
            if protocol in COLLECTIONS:
                reports[prompts.name] = COLLECTIONS[protocol].evaluate(chosen, found)
            else:
                evaluate = PROTOCOLS[protocol].evaluate
                reports[prompts.name] = evaluate(chosen[SINGLE], found[SINGLE])
        finder.close()
        if not reports:
            return None
        report = next(iter(reports.values())) if len(reports) == 1 else compare_prompts(reports)
        num_left_out = sum(len(sets[name]) - len(chosen[name]) for name in sets)
        notes = [*report.notes, *finder.notes]
        if num_left_out:
            notes.append(f"{num_left_out} images without an annotation are left out, as asked for.")
        return replace(report, protocol=protocol, notes=tuple(dict.fromkeys(notes)))

    def _with_classes(self, sets: "Mapping[str, Dataset]", protocol: str) -> "dict[str, Dataset]":
        """The classes that take part: those of ``--classes``, then what the protocol looks at."""
        from regionclip.evaluation.naming import restricted_to
        from regionclip.evaluation.protocols import PROTOCOLS

        classes = self.asked_classes()
        if classes is None:
            chosen = dict(sets)
        else:
            names = classes if isinstance(classes, tuple) else classes.names
            chosen = {name: restricted_to(dataset, names) for name, dataset in sets.items()}
        if protocol not in PROTOCOLS:
            return chosen
        return {name: PROTOCOLS[protocol].view(dataset) for name, dataset in chosen.items()}

    def _all_prompts(self, sets: "Mapping[str, Dataset]", protocol: str) -> list[Prompts]:
        """Every way of writing the classes' names that is reported."""
        from regionclip.concepts.synonyms import BUILTIN_SYNONYMS, check_synonyms, read_synonyms

        synonyms: dict[str, str] = {}
        if self.synonyms is not None:
            names = [name for dataset in sets.values() for name in dataset.class_names]
            synonyms = read_synonyms(self.synonyms)
            if self.synonyms in BUILTIN_SYNONYMS:
                synonyms = {name: other for name, other in synonyms.items() if name in names}
            check_synonyms(synonyms, names, self.synonyms)
        with_synonyms = [Prompts(SYNONYMS, synonyms)] if synonyms else []
        if protocol != "diverse-weather" or self.detections is not None:
            return with_synonyms or [Prompts(OWN_NAMES)]
        weather = [Prompts(WEATHER, synonyms, weather=True)] if self.weather_prompts else []
        return [Prompts(OWN_NAMES), *with_synonyms, *weather]

    def _finder(self, protocol: str) -> tuple[Finder, dict[str, Any]]:
        """Where detections come from, and what a report says about that."""
        from regionclip.cli.evaluate_finders import FileFinder
        from regionclip.evaluation.protocols import PROTOCOLS

        if self.detections is None:
            return self._model_finder(protocol)
        with_masks = protocol in PROTOCOLS and PROTOCOLS[protocol].with_masks
        finder = FileFinder(self.detections, other_names=self.other_names, with_masks=with_masks)
        return finder, {"detections": str(self.detections)}

    def _model_finder(self, protocol: str) -> tuple[Finder, dict[str, Any]]:
        from regionclip.cli.classes import parse_names, parse_templates
        from regionclip.cli.devices import checked_device
        from regionclip.cli.evaluate_finders import ModelFinder, NoVocabularies, Vocabularies
        from regionclip.cli.evaluate_model import ModelRun
        from regionclip.evaluation.finding import find_in_true_boxes, find_objects, find_proposals
        from regionclip.evaluation.processes import Processes
        from regionclip.evaluation.protocols import PROTOCOLS
        from regionclip.settings import settings_to_dict

        classes = self.asked_classes()
        templates = None if self.templates is None else parse_templates(self.templates)
        rules = PROTOCOLS.get(protocol, PROTOCOLS["coco"])
        find = rules.find
        if self.boxes == "truth" and find is find_objects:
            find = find_in_true_boxes
        processes = Processes.join(on_cpu=checked_device(self.device) == "cpu")
        others = () if self.also_named is None else parse_names(self.also_named)
        needs_proposals = find in (find_objects, find_proposals)
        if needs_proposals:
            detector, settings = self.open_model(with_names=find is find_objects)
        else:
            detector, settings = self.load_model(), self.model_settings(self.proposals)
        options = self._options_for(detector, rules)
        settings |= settings_to_dict(options)
        run = ModelRun(
            detector=detector,
            vocabulary=None,
            options=options,
            find=find,
            batch_size=self.batch_size,
            workers=self.workers,
            processes=processes,
        )
        vocabularies = (
            NoVocabularies()
            if find is find_proposals
            else Vocabularies(detector, classes, templates, others)
        )
        finder = ModelFinder(
            run, vocabularies, folder=self.output, settings=settings, resume=self.resume
        )
        return finder, {"model": self.model, "settings": settings}

    def _options_for(self, detector: "Detector", rules: "Protocol") -> "DetectOptions":
        """Options given, else the protocol's number of detections, else the model's own."""
        return self.options(rules.options(detector.defaults))

    def _expectations(self, protocol: str) -> "tuple[Expectation, ...]":
        from regionclip.evaluation.expectations import expectations_of, parse_expectations

        if self.expect is None:
            return ()
        if self.expect != PAPER:
            return parse_expectations(self.expect)
        return expectations_of(self.recipe or "", protocol)

    def _check(self) -> None:
        """Refuse what does not go together, before anything is read.

        Raises:
            UsageError: Options contradict each other.
        """
        check_counts(self, "batch_size", "workers")
        if self.also_named is not None:
            self._check_also_named()
        if self.output is not None and self.output.exists() and not self.output.is_dir():
            raise UsageError(f"--output {self.output} is a file; give a folder")
        if self.data is None:
            for name in NEED_DATA:
                if getattr(self, name) is not None:
                    option = name.replace("_", "-")
                    raise UsageError(f"--{option}: needs --data; without it icons are drawn")
        elif bool(self.model) == (self.detections is not None):
            raise UsageError(
                "name a model, or a file of its detections with --detections"
                + (", not both" if self.model else "")
            )
        if self.weather_prompts and (self.protocol != "diverse-weather" or self.detections):
            raise UsageError("--weather-prompts: are for models with --protocol diverse-weather")
        if self.boxes == "truth" and (self.protocol == "proposals" or self.detections):
            raise UsageError("--boxes truth: the boxes are what is judged; leave it out")
        if (self.expect == PAPER) != (self.recipe is not None):
            raise UsageError("--expect paper and --recipe NAME go together")

    def _check_also_named(self) -> None:
        """Refuse names beside the data's where nothing is looked for by name, or is already found.

        Raises:
            UsageError: Options contradict each other.
        """
        from regionclip.cli.classes import vectors_file
        from regionclip.evaluation.finding import find_objects
        from regionclip.evaluation.protocols import PROTOCOLS

        if self.detections is not None:
            raise UsageError("--also-named: is for models; these detections are made already")
        if vectors_file(self.classes) is not None:
            raise UsageError(
                f"--also-named: {self.classes} holds vectors, and names beside them have none"
            )
        protocol = self.protocol or "coco"
        if protocol in PROTOCOLS and PROTOCOLS[protocol].find is not find_objects:
            raise UsageError(f"--also-named: is for protocols of detections, not for {protocol}")
