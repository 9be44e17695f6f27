"""Where the detections of an evaluation come from: a model, or files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from regionclip.cli.console import UsageError
from regionclip.cli.contents import digest_of_rows
from regionclip.cli.evaluate_model import ModelRun, run_model
from regionclip.cli.evaluate_sets import SINGLE

if TYPE_CHECKING:
    from regionclip.data.datasets import Dataset
    from regionclip.evaluation.result_files import OtherNames
    from regionclip.structures import Detections
    from regionclip.vocabulary import Vocabulary

MAX_NAMES = 5
"""Images that a note names."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """How the names of classes are written for the model.

    Attributes:
        name: What reports call this way.
        synonyms: Other names by class.
        weather: Whether prompts say the domain's weather.
    """

    name: str
    synonyms: Mapping[str, str] = field(default_factory=dict)
    weather: bool = False


@runtime_checkable
class Finder(Protocol):
    """Gives the detections of a data set.

    Attributes:
        notes: What readers of a report have to know, as it becomes known.
        is_complete: Whether every image could be read so far.
        is_main: Whether this process has the detections and reports.
    """

    notes: list[str]
    is_complete: bool
    is_main: bool

    def find(
        self, name: str, dataset: "Dataset", whole: "Dataset", prompts: Prompts
    ) -> "Iterable[Detections]":
        """Detections in a data set.

        Args:
            name: Of the data set among those evaluated.
            dataset: The images and classes that take part.
            whole: The same classes and all images, which a file may know.
            prompts: How classes are called.

        Returns:
            One per image, in order, to be read once.
        """
        ...

    def close(self) -> None:
        """Nothing more is to be found."""
        ...


class FileFinder:
    """Reads detections from a file, or from a folder with a file per data set."""

    def __init__(self, path: Path, *, other_names: "OtherNames", with_masks: bool) -> None:
        """Read below ``path`` when asked to."""
        self.notes: list[str] = []
        self.is_complete = self.is_main = True
        self._path = path
        self._other_names: OtherNames = other_names
        self._with_masks = with_masks

    def find(
        self, name: str, dataset: "Dataset", whole: "Dataset", prompts: Prompts
    ) -> "Iterable[Detections]":
        """See :class:`Finder`."""
        from regionclip.evaluation.result_files import read_detection_file

        file = read_detection_file(
            self._file_of(name), whole, synonyms=prompts.synonyms, other_names=self._other_names
        )
        self.notes += file.notes
        return (file.of(sample, with_masks=self._with_masks) for sample in dataset)

    def close(self) -> None:
        """See :class:`Finder`."""

    def _file_of(self, name: str) -> Path:
        if name == SINGLE:
            return self._path
        candidates = [self._path / f"{name}{suffix}" for suffix in (".json", ".parquet")]
        found = [path for path in candidates if path.is_file()]
        if not found:
            raise UsageError(
                f"--detections {self._path}: holds neither {name}.json nor {name}.parquet; for "
                "several data sets give a folder with a file for each"
            )
        return found[0]


class ModelFinder:
    """Runs a model, in this process and those beside it."""

    def __init__(
        self,
        run: ModelRun,
        vocabularies: "Vocabularies",
        *,
        folder: Path | None,
        settings: Mapping[str, Any],
        resume: bool,
    ) -> None:
        """Prepare to run.

        Args:
            run: The model; its vocabulary is replaced for every data set.
            vocabularies: Names to vectors; without any, boxes have no class.
            folder: Where journals are kept, so that a run that was stopped goes on.
            settings: What results depend on beside names and data.
            resume: Go on with what the journals have.
        """
        self.notes: list[str] = []
        self.is_complete = True
        self.is_main = run.processes.is_main
        self._run, self._vocabularies = run, vocabularies
        self._folder, self._settings, self._resume = folder, settings, resume

    def find(
        self, name: str, dataset: "Dataset", whole: "Dataset", prompts: Prompts
    ) -> "Iterable[Detections]":
        """See :class:`Finder`."""
        from regionclip.evaluation.finding import name_of, only_first

        vocabulary = self._vocabularies.of(name, dataset, prompts)
        if vocabulary is not None:
            self.notes += self._vocabularies.notes(dataset, prompts)
        others = () if vocabulary is None else vocabulary.names[len(dataset.class_names) :]
        settings = {
            **self._settings,
            **({"also_named": others} if others else {}),
            "data": dataset.source,
            "find": name_of(self._run.find),
            "classes": dataset.class_names,
            "synonyms": dict(prompts.synonyms),
            "templates": None if vocabulary is None else vocabulary.templates,
            "vectors": None if vocabulary is None else self._vocabularies.digest(vocabulary),
        }
        found = run_model(
            replace(self._run, vocabulary=vocabulary),
            dataset,
            journal=self._journal(name, prompts),
            settings=settings,
            resume=self._resume,
        )
        if found.unreadable:
            self.is_complete = False
            shown = "; ".join(found.unreadable[:MAX_NAMES])
            self.notes.append(
                f"{len(found.unreadable)} images could not be read and count as images in which "
                f"nothing was found: {shown}{'; ...' if len(found.unreadable) > MAX_NAMES else ''}"
            )
        if not others:
            return found.detections()
        self.notes.append(f"{len(others)} classes more were named, and are not judged.")
        return (only_first(each, len(dataset.class_names)) for each in found.detections())

    def close(self) -> None:
        """See :class:`Finder`."""
        self._run.processes.leave()

    def _journal(self, name: str, prompts: Prompts) -> Path | None:
        if self._folder is None:
            return None
        if name == SINGLE:
            return self._folder / "detections.jsonl"
        file = f"{name}-{prompts.name}".replace("/", "-").replace(" ", "-")
        return self._folder / "detections" / f"{file}.jsonl"


class Vocabularies:
    """Vectors of a data set's classes, under the data set's names."""

    def __init__(
        self,
        detector: Any,
        classes: Any,
        templates: Sequence[str] | None,
        others: Sequence[str] = (),
    ) -> None:
        """Prepare to encode.

        Args:
            detector: Its text tower encodes.
            classes: What ``--classes`` gave, checked; ``None`` for the data set's.
            templates: Prompts of ``--templates``; ``None`` takes those of the model.
            others: Names that are looked for beside the data set's.
        """
        self._detector, self._classes, self._templates = detector, classes, templates
        self._others = others

    def of(self, name: str, dataset: "Dataset", prompts: Prompts) -> "Vocabulary | None":
        """The vocabulary of a data set: its classes, then those that are looked for beside them.

        Raises:
            ValueError: The model carries neither these classes nor a text tower.
        """
        from regionclip.cli.classes import open_vocabulary
        from regionclip.concepts.synonyms import renamed
        from regionclip.evaluation.diverse_weather import WEATHER_PROMPTS
        from regionclip.evaluation.finding import carried_vocabulary, prompt_names, with_others

        if self._classes is not None and not isinstance(self._classes, tuple):
            return _in_order(open_vocabulary(self._detector, self._classes, None), dataset)
        templates = WEATHER_PROMPTS[name] if prompts.weather else self._templates
        class_names = with_others(dataset.class_names, self._others)
        if templates is None and not prompts.synonyms:
            carried = carried_vocabulary(self._detector, class_names)
            if carried is not None:
                return carried
        names = prompt_names(renamed(class_names, prompts.synonyms))
        made = open_vocabulary(self._detector, names, templates)
        return replace(made, names=class_names)

    def notes(self, dataset: "Dataset", prompts: Prompts) -> list[str]:
        """What readers of a report have to know of the words."""
        from regionclip.concepts.synonyms import words_asked_for

        if self._classes is not None and not isinstance(self._classes, tuple):
            return []  # vectors, whose words nobody knows
        note = words_asked_for(dataset.class_names, prompts.synonyms)
        return [] if note is None else [note]

    def digest(self, vocabulary: "Vocabulary") -> str | None:
        """What tells vectors of a file from others; those of names are known by the names."""
        if self._classes is None or isinstance(self._classes, tuple):
            return None
        return digest_of_rows(vocabulary.embeddings)


class NoVocabularies(Vocabularies):
    """For boxes without a class."""

    def __init__(self) -> None:
        """Nothing is needed."""

    def of(self, name: str, dataset: "Dataset", prompts: Prompts) -> None:
        """None."""


def _in_order(vocabulary: "Vocabulary", dataset: "Dataset") -> "Vocabulary":
    """Rows in the order of the data set's classes, which were chosen by these names."""
    from regionclip.concepts.class_names import plain_name

    rows = {plain_name(name): row for row, name in enumerate(vocabulary.names)}
    chosen = [rows[plain_name(name)] for name in dataset.class_names]
    return replace(vocabulary, names=dataset.class_names, embeddings=vocabulary.embeddings[chosen])
