"""``regionclip detect``: photographs and names to boxes with those names."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from regionclip.cli.console import UsageError, console, print_table
from regionclip.cli.detecting import DetectingCommand
from regionclip.cli.files import FileNames
from regionclip.cli.journal import Journal
from regionclip.cli.options import optional, value
from regionclip.cli.outputs import detections_entry, parse_formats, write_detections
from regionclip.cli.running import report

if TYPE_CHECKING:
    from regionclip.cli.running import Pair
    from regionclip.data.images import ImageReadError
    from regionclip.data.sources import NamedSource
    from regionclip.detect import DetectOptions, Detector
    from regionclip.vocabulary import Vocabulary

PICTURES = "pictures"
MAX_TABLE_ROWS = 20
MAX_TABLE_NAMES = 4


@dataclass(frozen=True, kw_only=True)
class Detect(DetectingCommand):
    """Find the things you name in images, folders of images and videos.

    Writes detections.json (COCO), annotated pictures, and what else --format names.

    For example:

        regionclip detect photos --classes "cat, remote control" --output found

        regionclip detect scenes/images --model icons --classes icons --output found
    """

    format: Annotated[str, value("LIST")] = "coco"
    """With commas: coco (detections.json, a COCO data set with scores), coco-results (results.json,
    for COCO's evaluation), parquet (detections.parquet)."""
    masks: bool = False
    """Also find the pixels of each detection; models with a mask head can, which those fine-tuned
    on LVIS have. They are drawn, and written as COCO's run lengths ('segmentation'; 'mask' in
    Parquet)."""
    unique_boxes: bool = False
    """Each box once, with its best name. A box may be found with several names; those are counted
    before, so fewer than --max-detections may be left."""
    pictures: bool = True
    """Draw the best boxes of each image (25; of those that overlap, the best) into pictures/."""
    sheet: Annotated[Path | None, optional("FILE")] = None
    """Also lay the first 16 pictures out on one sheet, a PNG or JPEG file."""

    def run(self) -> int:
        """Detect, write, and print a short table."""
        from regionclip.cli.classes import open_vocabulary, parse_templates
        from regionclip.cli.pictures import write_sheet

        formats = parse_formats(self.format)
        if self.masks and self.regions == "crops":
            raise UsageError("--masks are cut from the map of the image; leave out --regions crops")
        _check_sheet(self.sheet)
        sources = self.find_images()
        classes = self.asked_classes()
        templates = None if self.templates is None else parse_templates(self.templates)
        detector, settings = self.open_model()
        if self.masks and detector.parts.mask_head is None:
            raise UsageError(
                f"--masks: {self.model} has no mask head; models fine-tuned on LVIS have one, such "
                "as regionclip-lvis-rn50"
            )
        vocabulary = open_vocabulary(detector, classes, templates)
        options = self.options(detector.defaults)
        settings |= self.detection_settings(vocabulary, options)
        settings["unique_boxes"] = self.unique_boxes
        with Journal(self.output / "detections.jsonl", settings, resume=self.resume) as journal:
            failures = self._detect(sources, journal, detector, vocabulary)
            category_ids = self._category_ids(vocabulary.names)
            paths = write_detections(self.output, formats, journal, vocabulary.names, category_ids)
            if self.sheet is not None:
                write_sheet(self.sheet, journal.entries(), vocabulary.names)
                paths.append(self.sheet)
            paths += [self.output / PICTURES] if self.pictures else []
            _print_tables(journal, vocabulary.names)
            console.print("written: " + ", ".join(map(str, paths)), markup=False, soft_wrap=True)
            return report(journal, failures)

    def options(self, defaults: "DetectOptions") -> "DetectOptions":
        """The model's options with those given instead of its own.

        Raises:
            ValueError: One is out of range.
        """
        return replace(super().options(defaults), with_masks=self.masks)

    def _detect(
        self,
        sources: "Sequence[NamedSource]",
        journal: Journal,
        detector: "Detector",
        vocabulary: "Vocabulary",
    ) -> "list[ImageReadError]":
        """Detect in what is not done, and draw what is not drawn."""
        from regionclip.cli.pictures import PictureWriter, detections_to_draw, image_of

        options = self.options(detector.defaults)
        folder = self.output / PICTURES
        names = FileNames(".jpg")
        for entry in journal.entries():
            names.claim(entry["picture"], entry["image"])

        with PictureWriter() as pictures:

            def compute(pairs: "Sequence[Pair]") -> None:
                images = [image for _, image in pairs]
                results = detector.detect_prepared(images, vocabulary, options)
                for (source, image), rows in zip(pairs, results, strict=True):
                    found = rows.unique_boxes() if self.unique_boxes else rows
                    picture = names.of(source)
                    if self.pictures:
                        pictures.write(folder / picture, source.image, found)
                    entry = detections_entry(source, found, image.original_size_hw)
                    journal.write(source, {**entry, "picture": picture})

            failures = self.compute(sources, journal, detector, compute)
            pictures.finish()
            for entry in journal.entries() if self.pictures else ():
                if not (folder / entry["picture"]).exists():
                    found = detections_to_draw(entry, vocabulary.names)
                    pictures.write(folder / entry["picture"], image_of(entry), found)
        return failures

    def _category_ids(self, class_names: Sequence[str]) -> list[int]:
        """The ids that the COCO jsons among the images give these names, else 1, 2, 3, ..."""
        from regionclip.data.sources import coco_category_ids

        ids: dict[str, int] = {}
        for path in self.images:
            if path.lower().endswith(".json"):
                ids |= coco_category_ids(path)
        if all(name in ids for name in class_names):
            return [ids[name] for name in class_names]
        return list(range(1, len(class_names) + 1))


def _check_sheet(path: Path | None) -> None:
    from PIL import Image

    if path is not None and path.suffix.lower() not in Image.registered_extensions():
        raise UsageError(f"--sheet {path}: is no picture file; call it .png or .jpg")


def _print_tables(journal: Journal, class_names: Sequence[str]) -> None:
    """Print the first images with their best names, and how often each name was found."""
    rows = []
    counts: Counter[str] = Counter()
    for entry in journal.entries():
        found: list[str] = [class_names[int(label)] for label in entry["labels"]]
        counts.update(found)
        if len(rows) < MAX_TABLE_ROWS:
            name = Path(entry["image"]).name
            rows.append((name, str(len(found)), _best_names(found, entry["scores"])))
    print_table("Detections", ("image", "boxes", "best names"), rows)
    if len(journal) > len(rows):
        console.print(f"... and {len(journal) - len(rows)} more images")
    if counts:
        most = ", ".join(f"{name} {count}" for name, count in counts.most_common(10))
        console.print(f"{counts.total()} boxes: {most}", markup=False, soft_wrap=True)


def _best_names(names: Sequence[str], scores: Sequence[float]) -> str:
    """The first names of best-first rows, each once with its best score and its count."""
    best: dict[str, float] = {}
    for name, score in zip(names, scores, strict=True):
        best.setdefault(name, score)
    counts = Counter(names)
    shown = [
        f"{name} {score:.2f}" + (f" (x{counts[name]})" if counts[name] > 1 else "")
        for name, score in best.items()
    ]
    return ", ".join(shown[:MAX_TABLE_NAMES] + ["..."] * (len(shown) > MAX_TABLE_NAMES))
