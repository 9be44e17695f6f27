"""A model over the data sets of an evaluation: shared among processes, resumable, never mixed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionclip.cli.console import errors, progress
from regionclip.cli.journal import Journal
from regionclip.cli.running import in_halves

if TYPE_CHECKING:
    from regionclip.data.datasets import Dataset
    from regionclip.data.images import ImageReadError
    from regionclip.data.sources import NamedSource
    from regionclip.detect import DetectOptions, Detector
    from regionclip.evaluation.finding import Find
    from regionclip.evaluation.processes import Processes
    from regionclip.structures import Detections
    from regionclip.vocabulary import Vocabulary

    Record = dict[str, Any]

RECORD_KEYS = ("boxes", "scores", "labels", "masks")
"""Of :func:`regionclip.evaluation.records.to_record`, among what a journal adds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRun:
    """A model that looks for something, and how."""

    detector: "Detector"
    """Looks."""
    vocabulary: "Vocabulary | None"
    """Names; ``None`` for boxes without a class."""
    options: "DetectOptions"
    """Scoring and selection."""
    find: "Find"
    """What is done in each image."""
    batch_size: int
    """Images computed at a time."""
    workers: int
    """Threads that read ahead."""
    processes: "Processes"
    """Those that share the work."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a run found in a data set; only the main process has all of it.

    Attributes:
        records: By index of the image.
        class_names: By label.
        num_images: Of the data set.
        unreadable: Why images could not be read, in their order.
    """

    records: "Mapping[int, Record]"
    class_names: tuple[str, ...]
    num_images: int
    unreadable: tuple[str, ...]

    def detections(self) -> "Iterator[Detections]":
        """One per image, in the data set's order."""
        from regionclip.evaluation.finding import nothing_found
        from regionclip.evaluation.records import from_record

        for index in range(self.num_images):
            if index in self.records:
                yield from_record(self.records[index], self.class_names)
            else:
                yield nothing_found(self.class_names)


def run_model(
    run: ModelRun,
    dataset: "Dataset",
    *,
    journal: Path | None,
    settings: Mapping[str, Any],
    resume: bool,
) -> Found:
    """Find things in every image, in this process and the others.

    Args:
        run: The model.
        dataset: Its images.
        journal: File of what is done, so that a run that was stopped goes on; ``None`` keeps it in
            memory. Every other process has one of its own beside it, until all is done.
        settings: What the results depend on, for the journal.
        resume: Go on with what the journal has.

    Raises:
        ValueError: The journal was made with other settings, or the model cannot do what is asked.
    """
    from regionclip.evaluation.proposals import OBJECT

    processes = run.processes
    sources = _sources(dataset)
    with ExitStack() as stack:
        own: Journal | None = None
        done: dict[int, Record] = {}
        if journal is not None and processes.is_main:
            own = stack.enter_context(Journal(journal, settings, resume=resume))
            _take_over(own, journal, settings, sources, resume=resume)
            done = _records(own, sources)
        todo = processes.from_main([index for index in range(len(dataset)) if index not in done])
        part = None if journal is None else _part(journal, processes.rank)
        if part is not None and not processes.is_main:
            own = stack.enter_context(Journal(part, settings, resume=False))
        records, unreadable = _find(run, dataset, sources, todo, own)
        gathered = processes.gather((records, unreadable))
        for others, _ in gathered[1:]:
            for index, record in others.items():
                if own is not None:
                    own.write(sources[index], record)
        processes.wait()
        if part is not None and not processes.is_main:
            part.unlink(missing_ok=True)
    for own_records, _ in gathered:
        done |= own_records
    why = {index: reason for _, reasons in gathered for index, reason in reasons.items()}
    names = (OBJECT,) if run.vocabulary is None else run.vocabulary.names
    return Found(done, names, len(dataset), tuple(why[index] for index in sorted(why)))


def _find(
    run: ModelRun,
    dataset: "Dataset",
    sources: "Sequence[NamedSource]",
    todo: Sequence[int],
    journal: Journal | None,
) -> "tuple[dict[int, Record], dict[int, str]]":
    """This process's share: what was found, and why images could not be read."""
    from regionclip.evaluation.finding import detect_dataset
    from regionclip.evaluation.records import to_record

    share = run.processes.share(todo, run.batch_size)
    records: dict[int, Record] = {}
    unreadable: dict[int, str] = {}

    def note(place: int, error: "ImageReadError") -> None:
        unreadable[share[place]] = str(error)
        errors.print(str(error), markup=False, soft_wrap=True)

    found = detect_dataset(
        run.detector,
        replace(dataset, samples=tuple(dataset[index] for index in share)),
        run.vocabulary,
        run.options,
        find=_in_halves(run.find),
        batch_size=run.batch_size,
        num_workers=run.workers,
        unreadable=note,
    )
    num_done = len(dataset) - len(todo)
    total = len(dataset) if run.processes.count == 1 else len(share)
    is_main = run.processes.is_main
    with progress("Detecting", total) if is_main else nullcontext(_nothing) as advance:
        advance(num_done if run.processes.count == 1 else 0)
        for index, own in zip(share, found, strict=True):
            if index not in unreadable:
                records[index] = to_record(own)
                if journal is not None:
                    journal.write(sources[index], records[index])
            advance(1)
    return records, unreadable


def _nothing(_: int = 1) -> None:
    """In place of a bar that another process shows."""


def _in_halves(find: "Find") -> "Find":
    """The same, in halves of halves where memory does not suffice."""
    from regionclip.evaluation.finding import OtherwisePrepared

    if isinstance(find, OtherwisePrepared):
        return OtherwisePrepared(_in_halves(find.find), find.prepare)

    def find_in_halves(search: Any, pairs: Sequence[Any]) -> "list[Detections]":
        found: list[Detections] = []

        def compute(some: Sequence[Any]) -> None:
            found.extend(find(search, some))

        in_halves(compute, pairs)
        return found

    return find_in_halves


def _sources(dataset: "Dataset") -> "list[NamedSource]":
    from regionclip.evaluation.finding import source_of

    return [source_of(sample) for sample in dataset]


def _records(journal: Journal, sources: "Sequence[NamedSource]") -> "dict[int, Record]":
    """What a journal has of images whose files have not changed since."""
    index_of = {
        source.name: index
        for index, source in enumerate(sources)
        if source.name in journal and source.file.exists() and journal.is_done(source)
    }
    return {
        index_of[entry["image"]]: _record_of(entry)
        for entry in journal.entries()
        if entry["image"] in index_of
    }


def _take_over(
    journal: Journal,
    path: Path,
    settings: Mapping[str, Any],
    sources: "Sequence[NamedSource]",
    *,
    resume: bool,
) -> None:
    """Move what other processes had done, when all were stopped, into the main journal."""
    by_name = {source.name: source for source in sources}
    for part in sorted(path.parent.glob(f"{path.stem}.[0-9]*{path.suffix}")):
        if resume:
            with Journal(part, settings, resume=True) as other:
                for entry in other.entries():
                    source = by_name.get(entry["image"])
                    if source is not None and source.file.exists() and other.is_done(source):
                        journal.write(source, _record_of(entry))
        part.unlink()


def _part(journal: Path, rank: int) -> Path:
    return journal.with_name(f"{journal.stem}.{rank}{journal.suffix}")


def _record_of(entry: Mapping[str, Any]) -> "Record":
    return {key: entry[key] for key in RECORD_KEYS if key in entry}
