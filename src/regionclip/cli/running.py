"""What the commands share that run a model over images."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from tyro.conf import Positional

from regionclip.cli.console import UsageError, console, downloads, errors, progress
from regionclip.cli.contents import known_by
from regionclip.cli.devices import checked_device, parse_bytes
from regionclip.cli.journal import Journal
from regionclip.cli.options import check_counts, optional, value

if TYPE_CHECKING:
    from regionclip.data.images import ImageReadError
    from regionclip.data.sources import NamedSource
    from regionclip.detect import Detector
    from regionclip.structures import PreparedImage

    Pair = tuple[NamedSource, PreparedImage]

T = TypeVar("T")
DEFAULT_MODEL = "openai:RN50"
PROPOSALS_OF_MODELS_WITHOUT = "torchvision"


@dataclass(frozen=True, kw_only=True)
class LoadingCommand:
    """Options of commands that read a model."""

    model: Annotated[str, value("NAME|FILE")] = DEFAULT_MODEL
    """A name that 'regionclip models list' shows, or a checkpoint. The default is OpenAI's CLIP,
    downloaded once; 'icons' comes with the package but knows pictograms, not photographs."""
    proposals: Annotated[str | None, optional("NAME|FILE")] = None
    """Where boxes come from: 'grid'; 'random'; 'torchvision', a general proposal network,
    downloaded once; a file of boxes (.json, .parquet, .csv), a folder that 'propose' wrote, any
    detector (.onnx), or a proposal network (.pth). By default the model's own, or 'torchvision' if
    it has none."""
    text_weights: Annotated[str | None, optional("NAME|FILE")] = None
    """Model to take the text tower from, for fine-tuned originals, which carry none: the CLIP that
    they were made with. Only the width of its vectors is checked; another CLIP of the same width
    names boxes wrongly."""
    regions: Literal["map", "dense", "layer4", "mask-attention", "crops"] = "map"
    """'map' cuts regions from one map of the image; 'crops' runs the whole image tower on every
    region, slow. 'dense' and 'layer4' are other maps of a ResNet, such as CLIM's; 'mask-attention'
    is a slow way of vision transformers."""
    region_prompt: Annotated[Path | None, optional("FILE")] = None
    """A region prompt, CORA's, to pool regions with: any CLIP with a ResNet of the size that it was
    trained on then knows regions better. For regions of the map."""
    transfer_to: Annotated[
        Literal["coco", "voc", "objects365"] | None, optional("coco|voc|objects365")
    ] = None
    """Let an F-ViT or F-VLM of LVIS name boxes as published on another benchmark: with fixed
    temperatures and one exponent for all classes, without masks."""
    activation: Annotated[Literal["quick_gelu", "gelu"] | None, optional("quick_gelu|gelu")] = None
    """What the towers of a file of a CLIP with a vision transformer compute with, or those of
    --text-weights. By default what the file says, else QuickGELU, with a warning."""
    padding: Annotated[Literal["square", "cells"] | None, optional("square|cells")] = None
    """How images are filled up with black for regions of a dense map: to a square, as CLIM and
    CLIPSelf train, or to whole cells, which is faster. By default what the file says, else a
    square."""
    device: Annotated[str, value("NAME")] = "auto"
    """cpu, cuda, cuda:1, mps, or auto: a GPU if there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What the image tower computes in."""
    memory_budget: Annotated[str, value("SIZE")] = "2GiB"
    """Memory for regions in work, which are computed in portions that fit."""

    def load_model(self) -> "Detector":
        """The model, which may be without proposals.

        Raises:
            ValueError: The model, the proposals or the device cannot be had.
        """
        from regionclip.loading import LoadOptions, load

        device = checked_device(self.device)
        memory_budget = parse_bytes(self.memory_budget)
        with downloads() as show:
            return load(
                self.model,
                device=device,
                precision=self.precision,
                proposals=self.proposals,
                regions=self.regions,
                region_prompt=self.region_prompt,
                text_weights=self.text_weights,
                options=LoadOptions(
                    memory_budget=memory_budget,
                    progress=show,
                    activation=self.activation,
                    transfer_to=self.transfer_to,
                    padding=self.padding,
                ),
            )

    def open_model(self, *, with_names: bool = True) -> "tuple[Detector, dict[str, Any]]":
        """The model with its proposals, and what its results depend on, for the journal.

        Args:
            with_names: It will be asked for classes; a model that finds boxes for these alone then
                needs no other proposals.

        Raises:
            ValueError: The model, the proposals or the device cannot be had.
        """
        from regionclip.detect import Detector
        from regionclip.loading.proposals import open_proposals

        detector = self.load_model()
        parts = detector.parts
        if parts.proposer is not None or (with_names and parts.localizer is not None):
            return detector, self.model_settings(self.proposals)
        proposals = PROPOSALS_OF_MODELS_WITHOUT
        with downloads() as show:
            proposer = open_proposals(proposals, device=checked_device(self.device), progress=show)
        detector = Detector(replace(parts, proposer=proposer), detector.defaults)
        return detector, self.model_settings(proposals)

    def model_settings(self, proposals: str | None) -> dict[str, Any]:
        """What results depend on, for the journal: files by what they hold.

        Args:
            proposals: Those used; ``None`` for the model's own.
        """
        from regionclip.loading import model_file
        from regionclip.loading.proposals import proposals_file

        words, prompt = self.text_weights, self.region_prompt
        # only if given, so that what was computed before there was this option stays usable
        others = {
            "activation": self.activation,
            "transfer_to": self.transfer_to,
            "padding": self.padding,
        }
        given = {name: each for name, each in others.items() if each is not None}
        return given | {
            "model": known_by(self.model, model_file(self.model)),
            "proposals": proposals and known_by(proposals, proposals_file(proposals)),
            "text_weights": words and known_by(words, model_file(words)),
            "regions": self.regions,
            "region_prompt": prompt and known_by(str(prompt), prompt),
            "precision": self.precision,
        }


@dataclass(frozen=True, kw_only=True)
class ModelCommand(LoadingCommand):
    """Options of commands that run a model over images, and go on where they stopped."""

    image_root: Annotated[Path | None, optional("FOLDER")] = None
    """Where the images of a COCO json are; by default beside it."""
    batch_size: Annotated[int, value("N")] = 1
    """Images computed at a time; more is faster on a GPU."""
    workers: Annotated[int, value("N")] = 4
    """Threads that read and resize images ahead."""
    resume: bool = True
    """Skip images that the output folder has already. --no-resume deletes its results first."""


@dataclass(frozen=True, kw_only=True)
class ImageCommand(ModelCommand):
    """Options of commands that run a model over images."""

    images: Annotated[Positional[tuple[str, ...]], optional("IMAGES...")]
    """Files, folders (searched with their folders), patterns ('photos/*.jpg'), COCO jsons, and
    videos (with the extra [video])."""
    output: Annotated[Path, value("FOLDER")]
    """Folder for the results; the same command again goes on where it stopped, and one with other
    images adds them."""
    frame_step: Annotated[int, value("N")] = 1
    """Take every Nth frame of a video."""

    def find_images(self) -> "list[NamedSource]":
        """The images asked for.

        Raises:
            UsageError: None are, or an option is out of range.
        """
        from regionclip.data.sources import find_images

        check_counts(self, "frame_step", "batch_size", "workers")
        if not self.images:
            raise UsageError("no images given; name files, folders, patterns or a COCO json")
        if self.output.exists() and not self.output.is_dir():
            raise UsageError(f"--output {self.output} is a file; give a folder")
        return find_images(self.images, image_root=self.image_root, exclude=self.output)

    def compute(
        self,
        sources: "Sequence[NamedSource]",
        journal: Journal,
        detector: "Detector",
        compute_batch: "Callable[[Sequence[Pair]], None]",
    ) -> "list[ImageReadError]":
        """Run over all images that are not done, reading ahead.

        Args:
            sources: All that were asked for.
            journal: Says what is done.
            detector: Prepares images.
            compute_batch: Computes and journals up to ``batch_size`` readable images.

        Returns:
            Why images, in their order, could not be read.
        """
        from regionclip.data.images import ImageReadError
        from regionclip.data.loading import prepared_batches
        from regionclip.data.video import with_frames

        failures: list[ImageReadError] = []
        has_videos = any(source.is_video for source in sources)
        with progress("Computing", None if has_videos else len(sources)) as advance:
            todo = _undone(with_frames(sources, frame_step=self.frame_step), journal, advance)
            batches = prepared_batches(
                todo, detector.prepare, batch_size=self.batch_size, num_workers=self.workers
            )
            with closing(batches):
                for batch in batches:
                    readable: list[Pair] = []
                    for source, image in batch:
                        if isinstance(image, ImageReadError):
                            failures.append(image)
                            errors.print(str(image), markup=False, soft_wrap=True)
                        else:
                            readable.append((source, image))
                    in_halves(compute_batch, readable)
                    advance(len(batch))
        return failures


def _undone(sources: Iterable[Any], journal: Journal, advance: Callable[..., None]) -> Iterator:
    for source in sources:
        if not isinstance(source, tuple) and source.file.exists() and journal.is_done(source):
            advance(1)
        else:
            yield source


def in_halves(compute: Callable[[Sequence[T]], None], items: Sequence[T]) -> None:
    """Compute all items at once, or in halves of halves where memory does not suffice.

    Raises:
        UsageError: A single item does not fit.
    """
    import torch

    if not items:
        return
    try:
        compute(items)
        return
    except torch.OutOfMemoryError as error:
        if len(items) == 1:
            raise UsageError(
                "the device's memory does not suffice for one image; lower --memory-budget, or "
                "use --precision bf16 or --device cpu"
            ) from error
    torch.cuda.empty_cache()
    middle = len(items) // 2
    in_halves(compute, items[:middle])
    in_halves(compute, items[middle:])


def report(journal: Journal, failures: "Sequence[ImageReadError]") -> int:
    """Print the last line of a command and return its exit code.

    Args:
        journal: Lists the images that are done.
        failures: Why others are not; each was printed when it happened.
    """
    line = f"{len(journal)} images done"
    if journal.num_found:
        line += f" ({journal.num_found} of them before)"
    if failures:
        line += f", {len(failures)} could not be read (named above)"
    console.print(line, markup=False)
    return 1 if failures else 0
