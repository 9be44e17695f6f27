"""``regionclip propose``: the regions of many images, found once and stored."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional

from regionclip.cli.console import UsageError, console, downloads, errors, progress
from regionclip.cli.contents import known_by
from regionclip.cli.devices import checked_device
from regionclip.cli.journal import Journal
from regionclip.cli.options import check_counts, optional, value
from regionclip.cli.running import in_halves
from regionclip.whole_files import replacing

if TYPE_CHECKING:
    from regionclip.cli.proposal_parts import Part
    from regionclip.cli.running import Pair
    from regionclip.detect import Detector
    from regionclip.proposals.embedded import EmbeddedProposals
    from regionclip.proposals.proposer import Proposer
    from regionclip.proposals.stored_features import FeatureSpace


@dataclass(frozen=True, kw_only=True)
class Propose:
    """Find the regions of images once, for pretraining or any other command's --proposals.

    Writes Parquet files: one row per box, in pixels of the original image. Training then finds an
    image's boxes by its name, wherever the image lies by then.

    For example:

        regionclip propose "cc3m/*.tar" --proposals rpn_lvis_866.pth --output cc3m_boxes

        regionclip propose captions_train.json --proposals torchvision --output boxes

        regionclip propose captions_train.json --teacher openai:RN50x4 --max-proposals 100 --output
        boxes_and_vectors
    """

    images: Annotated[Positional[tuple[str, ...]], optional("IMAGES...")]
    """Webdataset shards (a folder, 'cc3m/*.tar'), folders of images, patterns, files, and COCO
    jsons."""
    output: Annotated[Path, value("FOLDER")]
    """Folder for the boxes; the same command again goes on where it stopped."""
    proposals: Annotated[str, value("NAME|FILE")] = "torchvision"
    """What finds boxes: 'torchvision', a proposal network (.pth), any detector (.onnx), 'grid',
    'random', or a file of boxes."""
    max_proposals: Annotated[int, value("N")] = 300
    """Most boxes per image, the best first. RegionCLIP's pretraining keeps 300 and draws 100 of
    them each time."""
    nms_iou: Annotated[float, value("IOU")] = 0.5
    """Overlap above which a network's weaker box goes: 0.5 in RegionCLIP's pretraining."""
    teacher: Annotated[str | None, optional("NAME|FILE")] = None
    """Also store what this model's image tower makes of each box: pretraining with teacher=stored
    then runs no teacher. Its vectors are those of the image as it is prepared here, not as each
    step varies it. They take 2 kB a box with RN50, 0.6 MB an image with 300; --max-proposals 100
    makes that 0.2 MB."""
    teacher_regions: Literal["map", "crops"] = "map"
    """'map' cuts the teacher's regions from one map of the image; 'crops' runs its whole image
    tower on every region, many times slower. Other architectures than CLIP's ResNets know crops
    only."""
    region_prompt: Annotated[Path | None, optional("FILE")] = None
    """A region prompt, CORA's, for the teacher to pool regions of its map with."""
    shortest_side: Annotated[int, value("PIXELS")] = 800
    """What images are resized to before a network sees them."""
    longest_side: Annotated[int, value("PIXELS")] = 1333
    """Most pixels of the longer side."""
    images_per_part: Annotated[int, value("N")] = 1000
    """Images per file; what a command that is stopped may lose."""
    image_root: Annotated[Path | None, optional("FOLDER")] = None
    """Where the images of a COCO json are; by default beside it."""
    batch_size: Annotated[int, value("N")] = 1
    """Images computed at a time; more is faster on a GPU."""
    workers: Annotated[int, value("N")] = 4
    """Threads that read and resize images ahead."""
    device: Annotated[str, value("NAME")] = "auto"
    """cpu, cuda, cuda:1, mps, or auto: a GPU if there is one."""
    resume: bool = True
    """Go on with what the output folder has already. --no-resume deletes those boxes first."""

    def run(self) -> int:
        """Propose and write."""
        from regionclip.cli.proposal_parts import find_parts, remove_parts

        self._check()
        tools, settings = self._open()
        parts = find_parts(
            self.images,
            images_per_part=self.images_per_part,
            image_root=self.image_root,
            exclude=self.output,
        )
        path = self.output / "parts.jsonl"
        if not self.resume:
            remove_parts(self.output, path)
        tally = _Tally()
        with Journal(path, settings, resume=self.resume) as journal:
            with progress("Proposing", None) as advance:
                for part in parts:
                    tally.name_damage(part)
                    source = part.as_source(self.output)
                    if not (source.file.exists() and journal.is_done(source)):
                        journal.write(source, self._write(part, tools))
                    advance(len(part.images))
                    tally.names[source.name] = part.file
            for entry in journal.entries():
                tally.add(entry, self.output)
        return tally.report(self.output)

    def _check(self) -> None:
        if not self.images:
            raise UsageError(
                "no images given; name shards, files, folders, patterns or a COCO json"
            )
        if self.output.exists() and not self.output.is_dir():
            raise UsageError(f"--output {self.output} is a file; give a folder")
        check_counts(
            self,
            *("max_proposals", "images_per_part", "batch_size", "workers"),
            *("shortest_side", "longest_side"),
        )
        if not 0 < self.nms_iou <= 1:
            raise UsageError(f"--nms-iou must be in (0, 1], got {self.nms_iou}")
        if self.teacher is None and self.teacher_regions != "map":
            raise UsageError(f"--teacher-regions {self.teacher_regions} goes with --teacher MODEL")
        if self.teacher is None and self.region_prompt is not None:
            raise UsageError(f"--region-prompt {self.region_prompt} goes with --teacher MODEL")

    def _open(self) -> "tuple[_Tools, dict[str, Any]]":
        """What proposes, and what its results depend on."""
        from regionclip.loading import model_file, proposals_only
        from regionclip.loading.proposals import open_proposals, proposals_file

        with downloads() as show:
            proposer = open_proposals(
                self.proposals,
                device=checked_device(self.device),
                progress=show,
                nms_iou=self.nms_iou,
                max_proposals=self.max_proposals,
            )
        space = None
        if self.teacher is not None:
            proposer, space = self._with_teacher(proposer, self.teacher)
        settings = {
            "images": list(self.images),
            "proposals": known_by(self.proposals, proposals_file(self.proposals)),
            **{
                name: getattr(self, name)
                for name in ("max_proposals", "nms_iou", "shortest_side", "longest_side")
            },
            "images_per_part": self.images_per_part,
            "teacher": self.teacher and known_by(self.teacher, model_file(self.teacher)),
            "teacher_regions": self.teacher and self.teacher_regions,
        }
        if self.region_prompt is not None:  # only then, so that earlier folders are gone on with
            settings["region_prompt"] = known_by(str(self.region_prompt), self.region_prompt)
        sides = {"shortest_side": self.shortest_side, "longest_side": self.longest_side}
        return _Tools(proposals_only(proposer, **sides), space), settings

    def _with_teacher(
        self, proposer: "Proposer", model: str
    ) -> "tuple[EmbeddedProposals, FeatureSpace]":
        """A proposer whose boxes come with the teacher's vectors, and the space of these."""
        from regionclip.loading import LoadOptions, load
        from regionclip.proposals.embedded import EmbeddedProposals
        from regionclip.proposals.stored_features import FeatureSpace

        device = checked_device(self.device)
        with downloads() as show:
            teacher = load(
                model,
                device=device,
                regions=self.teacher_regions,
                region_prompt=self.region_prompt,
                options=LoadOptions(progress=show),
            )
        try:
            teacher.parts.encoder.tokenize(["a"])  # raises where there is no text tower
        except ValueError as error:
            raise UsageError(
                f"--teacher {model} has no text tower, so that no concept pool is of its space; "
                "give the model that the pool was made with"
            ) from error
        embedded = EmbeddedProposals(proposer, teacher.parts.regions)
        return embedded, FeatureSpace(teacher.encoder_id, embedded.width)

    def _write(self, part: "Part", tools: "_Tools") -> dict[str, Any]:
        """Compute one file; what to remember of it."""
        from regionclip.cli.proposal_parts import BoxRows
        from regionclip.data.images import ImageReadError
        from regionclip.data.loading import prepared_batches

        detector = tools.detector
        unreadable: list[str] = []
        with (
            replacing(self.output / part.file) as partial,
            BoxRows(partial, tools.space) as rows,
        ):

            def compute(pairs: "Sequence[Pair]") -> None:
                found = detector.propose([image for _, image in pairs])
                for (source, image), proposals in zip(pairs, found, strict=True):
                    rows.add(source.name, image, proposals)

            for batch in prepared_batches(
                part.images, detector.prepare, batch_size=self.batch_size, num_workers=self.workers
            ):
                readable: list[Pair] = []
                for source, image in batch:
                    if isinstance(image, ImageReadError):
                        unreadable.append(str(image))
                        errors.print(str(image), markup=False, soft_wrap=True)
                    else:
                        readable.append((source, image))
                in_halves(compute, readable)
        return {
            "part": part.file,
            "num_images": len(part.images) - len(unreadable),
            "num_boxes": len(rows),
            "unreadable": unreadable,
        }


@dataclass(frozen=True, slots=True)
class _Tools:
    """What finds boxes.

    Attributes:
        detector: Prepares images and proposes.
        space: Of the vectors that proposals come with; ``None`` if they come without.
    """

    detector: "Detector"
    space: "FeatureSpace | None"


@dataclass(slots=True)
class _Tally:
    """What a command has to say at its end."""

    names: dict[str, str] = field(default_factory=dict)
    """Files, by how the journal lists them."""
    num_images: int = 0
    num_boxes: int = 0
    num_unreadable: int = 0
    damaged: set[str] = field(default_factory=set)

    def name_damage(self, part: "Part") -> None:
        """Say once what is wrong with a shard."""
        if part.damage is not None and part.damage not in self.damaged:
            self.damaged.add(part.damage)
            errors.print(part.damage, markup=False, soft_wrap=True)

    def add(self, entry: dict[str, Any], folder: Path) -> None:
        """Count what a file holds; one of images that are no longer there is deleted."""
        if entry["image"] not in self.names:
            if entry["part"] not in self.names.values():
                (folder / entry["part"]).unlink(missing_ok=True)
            return
        self.num_images += entry["num_images"]
        self.num_boxes += entry["num_boxes"]
        self.num_unreadable += len(entry["unreadable"])

    def report(self, folder: Path) -> int:
        """Print the last line and return the exit code."""
        line = f"{self.num_boxes} boxes of {self.num_images} images in {folder}"
        if self.num_unreadable:
            line += f"; {self.num_unreadable} could not be read (named when they came up)"
        if self.damaged:
            line += f"; {len(self.damaged)} shards are damaged (named above)"
        console.print(line, markup=False, soft_wrap=True)
        return 1 if self.num_unreadable or self.damaged else 0
