"""What the commands share that have a model look at a COCO json's images and write another json."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional

from regionclip.cli.console import UsageError, console, downloads, errors
from regionclip.cli.devices import checked_device
from regionclip.cli.options import check_counts, optional, value
from regionclip.whole_files import replacing

if TYPE_CHECKING:
    from regionclip.data.images import ImageReadError
    from regionclip.detect import Detector

MOST_CLASSES = 20
"""Rows of a table of classes."""


@dataclass(frozen=True, kw_only=True)
class AnnotatingCommand:
    """Options of commands that write a COCO json anew, with what a model says of its images."""

    source: Annotated[Positional[Path], value("JSON")]
    """A COCO json with boxes."""
    output: Annotated[Path, value("JSON")]
    """A file that is not there yet."""
    model: Annotated[str, value("NAME|FILE")]
    """What looks at the images: a name that 'regionclip models list' shows, or a checkpoint."""
    region_prompt: Annotated[Path | None, optional("FILE")] = None
    """A region prompt, CORA's, for the model: any CLIP with a ResNet of the size that it was
    trained on, or CORA's own."""
    image_root: Annotated[Path | None, optional("FOLDER")] = None
    """Where the images are; by default beside the json."""
    batch_size: Annotated[int, value("N")] = 1
    """Images computed at a time; more is faster on a GPU."""
    workers: Annotated[int, value("N")] = 4
    """Threads that read and resize images ahead."""
    device: Annotated[str, value("NAME")] = "auto"
    """cpu, cuda, cuda:1, mps, or auto: a GPU if there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What the image tower computes in."""

    def check_options(self) -> None:
        """Refuse what would go wrong after a model is read.

        Raises:
            UsageError: The new file is there already, or a count is below 1.
        """
        if self.output.exists():
            raise UsageError(f"{self.output} exists, and nothing is overwritten; name another file")
        check_counts(self, "batch_size", "workers")

    def load_model(self, *, proposals: str | None = None) -> "Detector":
        """The model, which may be without proposals.

        Raises:
            ValueError: The model, the proposals, the prompt or the device cannot be had.
        """
        from regionclip.loading import LoadOptions, load

        device = checked_device(self.device)
        with downloads() as show:
            return load(
                self.model,
                device=device,
                precision=self.precision,
                proposals=proposals,
                region_prompt=self.region_prompt,
                options=LoadOptions(progress=show),
            )

    def write(self, content: Mapping[str, Any]) -> None:
        """Write the new json, whole or not at all."""
        with replacing(self.output) as file:
            file.write_text(json.dumps(content), encoding="utf-8")

    def say_where(self) -> None:
        """Print where the new json is: a command's last line."""
        console.print(f"written to {self.output}", markup=False, soft_wrap=True)


def noting(failures: "list[ImageReadError]") -> "Callable[[int, ImageReadError], None]":
    """What to tell of an image that cannot be read: it is printed, and added to ``failures``."""

    def note(_: int, error: "ImageReadError") -> None:
        failures.append(error)
        errors.print(str(error), markup=False, soft_wrap=True)

    return note
