"""``regionclip data check``: what is wrong with a data set."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from regionclip.cli.console import console, print_table, progress
from regionclip.cli.options import check_counts, optional, value
from regionclip.whole_files import replacing

if TYPE_CHECKING:
    from regionclip.data.checking import CheckReport


@dataclass(frozen=True, kw_only=True)
class DataCheck:
    """Find what is wrong with a data set, and say what training and evaluation do with it.

    Exit code 0: nothing would be refused, left out or displaced. 1: something would. 2: it cannot
    be read at all.

    For example:

        regionclip data check my/instances_train.json

        regionclip data check my --split train --output report.json
    """

    source: Annotated[Positional[Path], value("SOURCE")]
    """A COCO or LVIS json, a folder of Pascal VOC or YOLO or with COCO jsons, a table or webdataset
    shards of captions."""
    split: Annotated[str | None, optional("NAME")] = None
    """Part of a folder: train, val, ..."""
    image_root: Annotated[Path | None, optional("FOLDER")] = None
    """Where the images are; by default where the format has them, or near the annotation file."""
    images: bool = True
    """Decode every image. --no-images looks at the annotations alone."""
    workers: Annotated[int, value("N")] = 4
    """Threads that decode images."""
    output: Annotated[Path | None, optional("FILE.json")] = None
    """Also write the report here."""

    def run(self) -> int:
        """Check and print."""
        from regionclip.data.checking import examine, list_dataset, open_images

        check_counts(self, "workers")
        listing = list_dataset(self.source, split=self.split, image_root=self.image_root)
        facts = []
        if self.images:
            with progress("Opening images", len(listing.images)) as advance:
                facts = open_images(listing.images, num_workers=self.workers, progress=advance)
        report = examine(listing, facts)
        print_report(report)
        if self.output is not None:
            with replacing(self.output) as file:
                file.write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
        return 0 if report.is_harmless else 1


def print_report(report: "CheckReport") -> None:
    """Print the classes, what was found, and what becomes of it."""
    if report.classes:
        print_table(
            "Classes",
            ("class", "id", "boxes", "images"),
            [
                (each.name, str(each.category_id), str(each.num_boxes), str(each.num_images))
                for each in report.classes
            ],
        )
    if report.findings:
        print_table(
            "Found",
            ("number", "what", "effect", "for example"),
            [
                (str(each.number), each.kind.title, each.kind.effect, "\n".join(each.examples))
                for each in report.findings
            ],
        )
    for each in report.findings:
        line = f"- {each.kind.title}: {each.kind.consequence}."
        console.print(line, markup=False, soft_wrap=True)
    opened = f"{report.num_opened} opened" if report.num_opened else "not opened"
    counts = f"{report.num_images} images ({opened})"
    counts += f", {report.num_boxes} boxes" if report.classes or report.num_boxes else ""
    if report.num_captions:
        counts += f", {report.num_captions} captions"
    verdict = "nothing would be refused, left out or displaced"
    if not report.is_harmless:
        effects = [each.kind.effect for each in report.findings if not each.kind.is_harmless]
        verdict = f"something would be {' and '.join(dict.fromkeys(effects))}"
    line = f"{report.source} ({report.format}): {counts}; {verdict}"
    console.print(line, markup=False, soft_wrap=True)
