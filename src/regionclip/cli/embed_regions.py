"""``regionclip embed-regions``: one vector for every region of many images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from regionclip.cli.console import UsageError, console
from regionclip.cli.detecting import DetectingCommand
from regionclip.cli.files import FileNames
from regionclip.cli.journal import Journal
from regionclip.cli.options import check_counts, value
from regionclip.cli.running import report

if TYPE_CHECKING:
    from regionclip.cli.embedders import Embedder
    from regionclip.cli.running import Pair
    from regionclip.data.images import ImageReadError
    from regionclip.data.sources import NamedSource


@dataclass(frozen=True, kw_only=True)
class EmbedRegions(DetectingCommand):
    """Turn the regions of images into vectors that compare with those of texts.

    Without --classes the regions are the proposals; with --classes they are the detections, with
    their class. Vectors are not normalised. Writes regions.parquet: one row per region.

    For example:

        regionclip embed-regions photos --output vectors

        regionclip embed-regions photos --classes coco80 --format pth --output vectors
    """

    max_regions: Annotated[int, value("N")] = 100
    """Most proposals per image, the best first (without --classes); boxes without objectness come
    in their own order, so give a grid enough for all of them, such as 1000."""
    format: Literal["parquet", "pth"] = "parquet"
    """'pth' writes one file per image as RegionCLIP's export does: a.b.jpg becomes a.b.pth, or
    a.b.jpg.pth if another image has that name."""
    feature_dtype: Literal["float32", "float16"] = "float32"
    """Of the vectors in Parquet; float16 halves the file."""
    probs: Literal["top", "full"] = "top"
    """Keep the probability of the class found, or those of all classes and the background (with
    --classes; 'pth' always has all)."""

    def run(self) -> int:
        """Embed and write."""
        from regionclip.cli.classes import open_vocabulary, parse_templates
        from regionclip.cli.embedders import DetectionEmbedder, ProposalEmbedder

        check_counts(self, "max_regions")
        if self.classes is None and (self.novel_classes or self.novel_factor) is not None:
            option = "--novel-classes" if self.novel_classes is not None else "--novel-factor"
            raise UsageError(f"{option} is about the classes to look for; give --classes too")
        sources = self.find_images()
        classes = self.asked_classes()
        templates = None if self.templates is None else parse_templates(self.templates)
        detector, settings = self.open_model(with_names=classes is not None)
        vocabulary, options = None, None
        if classes is not None:
            vocabulary = open_vocabulary(detector, classes, templates)
            options = self.options(detector.defaults)
            settings |= self.detection_settings(vocabulary, options)
        else:
            settings["max_regions"] = self.max_regions
        for name in ("format", "feature_dtype", "probs"):
            settings[name] = getattr(self, name)
        if vocabulary is None or options is None:
            embedder = ProposalEmbedder(detector, self.max_regions)
        else:
            embedder = DetectionEmbedder(detector, vocabulary, options)
        with Journal(self.output / "images.jsonl", settings, resume=self.resume) as journal:
            write = self._write_files if self.format == "pth" else self._write_table
            failures = write(sources, journal, embedder)
            num_regions = sum(entry["num_regions"] for entry in journal.entries())
            console.print(f"{num_regions} regions in {self.output}", markup=False, soft_wrap=True)
            return report(journal, failures)

    def _write_files(
        self, sources: "Sequence[NamedSource]", journal: Journal, embedder: "Embedder"
    ) -> "list[ImageReadError]":
        """One file per image, in RegionCLIP's form."""
        from regionclip.cli.region_files import write_original

        names = FileNames(".pth")
        for entry in journal.entries():
            names.claim(entry["regions"], entry["image"])

        def compute(pairs: "Sequence[Pair]") -> None:
            embedded = embedder.embed([image for _, image in pairs])
            for (source, _), regions in zip(pairs, embedded, strict=True):
                file = names.of(source)
                write_original(self.output / file, regions)
                journal.write(source, {"regions": file, "num_regions": len(regions.boxes)})

        return self.compute(sources, journal, embedder.detector, compute)

    def _write_table(
        self, sources: "Sequence[NamedSource]", journal: Journal, embedder: "Embedder"
    ) -> "list[ImageReadError]":
        """One Parquet file."""
        from regionclip.cli.region_files import RegionTable, remove_table

        if not self.resume:
            remove_table(self.output)
        table = RegionTable(
            self.output,
            journal,
            dtype=self.feature_dtype,
            probs=self.probs,
            class_names=embedder.class_names,
            metadata={"model": self.model, "encoder_id": embedder.detector.encoder_id},
        )

        def compute(pairs: "Sequence[Pair]") -> None:
            embedded = embedder.embed([image for _, image in pairs])
            for (source, _), regions in zip(pairs, embedded, strict=True):
                table.add(source, regions)

        try:
            failures = self.compute(sources, journal, embedder.detector, compute)
        finally:
            table.flush()
        table.merge()
        return failures
