"""``regionclip models``: what weights there are, getting them, and turning files into our own."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from regionclip.cli.console import console, downloads, errors, print_table
from regionclip.cli.model_files import file_rows, summary_of

if TYPE_CHECKING:
    from torch import Tensor

    from regionclip.checkpoints import LoadReport
    from regionclip.weights import WeightsEntry


@dataclass(frozen=True, kw_only=True)
class ModelsList:
    """List the weights that can be loaded by name.

    For example:

        regionclip models list
        regionclip models list --method regionclip
    """

    method: Annotated[str | None, arg(metavar="NAME")] = None
    """Only the weights that this method or library reads."""
    cache: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """Where downloaded files are kept; by default ~/.cache/regionclip."""

    def run(self) -> int:
        """Print the table."""
        from regionclip.methods import known_weights

        entries = known_weights()
        methods = sorted({entry.method for entry in entries.values()})
        if self.method not in (None, *methods):
            raise ValueError(
                f"unknown method {self.method!r}; expected one of {', '.join(methods)}"
            )
        rows = [
            [name, entry.title, entry.licence.split(" (")[0], _whereabouts(entry, self.cache)]
            for name, entry in entries.items()
            if self.method in (None, entry.method)
        ]
        print_table("Known weights", ["name", "what", "licence", "file"], rows)
        return 0


@dataclass(frozen=True, kw_only=True)
class ModelsShow:
    """Describe known weights, or say what a checkpoint file holds.

    For example:

        regionclip models show regionclip-cc-rn50
        regionclip models show downloads/some_checkpoint.pth
    """

    model: Annotated[Positional[str], arg(metavar="NAME|FILE", help_behavior_hint="")]
    """A name that 'models list' shows, or the path of a checkpoint of any known layout."""
    cache: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """Where downloaded files are kept; by default ~/.cache/regionclip."""

    def run(self) -> int:
        """Print what is known."""
        if Path(self.model).exists():
            print_table(self.model, ["part", "content"], file_rows(Path(self.model)))
            return 0
        from regionclip.methods import known_weights
        from regionclip.weights import find_entry

        entry = find_entry(self.model, known_weights())
        rows = [
            ["what", entry.title],
            ["read by", " ".join((entry.method, entry.variant)).strip()],
            ["encoder", entry.encoder or "-"],
            ["images", entry.preprocessing or "as the file says"],
            ["licence", entry.licence],
            ["described at", entry.source],
            ["address", entry.url or entry.how_to_get or "comes with the package"],
            ["SHA-256", entry.sha256 or "not published"],
            ["file", _whereabouts(entry, self.cache)],
        ]
        print_table(self.model, ["", ""], rows)
        return 0


@dataclass(frozen=True, kw_only=True)
class ModelsDownload:
    """Fetch weights into the cache, so that they load without a network.

    A download that broke off goes on where it stopped, and a file is only kept if its hash is
    right.

    For example:

        regionclip models download openai:RN50
    """

    names: Annotated[Positional[tuple[str, ...]], arg(metavar="NAMES...", help_behavior_hint="")]
    """Names that 'models list' shows."""
    cache: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """Where to keep them; by default ~/.cache/regionclip."""

    def run(self) -> int:
        """Fetch one after the other; one that fails does not stop the rest."""
        from regionclip.methods import known_weights
        from regionclip.weights import DownloadError, find_entry

        if not self.names:
            raise ValueError("no names given; 'regionclip models list' shows them")
        known = known_weights()
        entries = {name: find_entry(name, known) for name in self.names}
        failures = 0
        for name, entry in entries.items():
            try:
                console.print(f"{name}: {_fetch(entry, self.cache)}", markup=False)
            except DownloadError as error:
                failures += 1
                errors.print(f"{name}: {error}", markup=False, soft_wrap=True)
        return 1 if failures else 0


@dataclass(frozen=True, kw_only=True)
class ModelsConvert:
    """Turn a checkpoint of any known layout into a safetensors file that says what it is.

    The new file holds the model's configuration, its encoder's identity, where it comes from and
    the hash of the original; nothing of the original's teacher or training state is kept. A file
    with a proposal network alone keeps its names.

    For example:

        regionclip models convert regionclip_pretrained-cc_rn50.pth cc-rn50.safetensors
        regionclip models convert laion_vitb16.pt vitb16.safetensors --activation gelu
        regionclip models convert openai_rn50x64_cc3m_clim.pt rn50x64.safetensors --method clim
    """

    model: Annotated[Positional[str], arg(metavar="NAME|FILE", help_behavior_hint="")]
    """A name that 'models list' shows, or the path of a checkpoint."""
    output: Annotated[Positional[Path], arg(metavar="OUTPUT", help_behavior_hint="")]
    """The .safetensors file to write."""
    activation: Annotated[Literal["quick_gelu", "gelu"] | None, arg(metavar="quick_gelu|gelu")] = (
        None
    )
    """What the towers of a CLIP with a vision transformer compute with. By default what the file
    says, else QuickGELU, and the report says so."""
    method: Annotated[Literal["clim", "regionclip"] | None, arg(metavar="clim|regionclip")] = None
    """Whose a CLIP with a ResNet is, which no tensor tells: CLIM's pools regions of layer4's map
    with attention. By default RegionCLIP's, but for names that are known to be CLIM's."""
    padding: Annotated[Literal["square", "cells"] | None, arg(metavar="square|cells")] = None
    """How images are filled up with black for CLIM's and CLIPSelf's models and CLIPs of these
    layouts: to a square, as they were trained, or to whole cells, which is faster. By default what
    the file says, else a square."""
    cache: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """Where downloaded files are kept; by default ~/.cache/regionclip."""

    def run(self) -> int:
        """Write the file and print what was loaded, missing and left over."""
        if self.output.suffix != ".safetensors":
            raise ValueError(f"{self.output} must end in .safetensors, which is what it will be")
        source, licence = self._source()
        if self.output.exists() and self.output.samefile(source):
            raise ValueError(f"{self.output} is the file to convert; name another one to write")
        origin = {"source": source.name, "source_sha256": _sha256(source)}
        origin |= {"licence": licence} if licence else {}
        rows, notes = self._convert(source, origin)
        print_table(str(source), ["part", "loaded", "missing", "left over"], rows)
        for note in notes:
            console.print(note, markup=False, soft_wrap=True)
        console.print(f"wrote {self.output}", markup=False, soft_wrap=True)
        return 0

    def _source(self) -> tuple[Path, str]:
        """The file, and its licence where that is known."""
        if Path(self.model).exists():
            return Path(self.model), ""
        from regionclip.methods import known_weights
        from regionclip.weights import find_entry

        entry = find_entry(self.model, known_weights())
        return _fetch(entry, self.cache), entry.licence

    def _convert(
        self, source: Path, origin: dict[str, str]
    ) -> tuple[list[list[str]], tuple[str, ...]]:
        """Write the file; the report's rows, and what was taken for granted."""
        from regionclip.checkpoints import read_checkpoint
        from regionclip.methods import known_entry
        from regionclip.methods.clim import reading as clim
        from regionclip.methods.clim.weights import is_clip
        from regionclip.methods.clipself import reading as clipself

        state = read_checkpoint(source)
        entry = known_entry(self.model)
        method = self.method or (entry.method if entry is not None else None)
        is_asked = method == clim.METHOD and is_clip(state)
        if is_asked or clim.is_clim_file(source, state):
            if self.method == "regionclip":
                raise ValueError(f"{source} is not of RegionCLIP's; leave out --method")
            read = clim.read_model(source, state, activation=self.activation)
            own = read.model.config
            read.model.config = replace(own, padding=self.padding or own.padding)
            clim.save_model(self.output, read.model, **origin)
            return [_row(read.report)], read.report.notes if entry is None else ()
        self._refuse_options(source)
        if clipself.is_clipself_file(source, state):
            eva = clipself.read_model(source, state)
            config = eva.model.config
            eva.model.config = replace(config, padding=self.padding or config.padding)
            clipself.save_model(self.output, eva.model, **origin)
            return [_row(eva.report)], eva.report.notes
        if self.padding is not None:
            raise ValueError(
                f"--padding is about towers with a dense map, CLIM's, CLIPSelf's and CLIPs of "
                f"these layouts, which {source} is not; leave it out"
            )
        rows, notes = _convert(source, state, self.output, origin)
        return rows, notes if entry is None else ()

    def _refuse_options(self, source: Path) -> None:
        """Raise for options that are about CLIPs of OpenAI's layout.

        Raises:
            ValueError: One was given.
        """
        if self.activation is not None:
            raise ValueError(
                f"--activation is about CLIPs with OpenAI's vision transformer, which {source} is "
                "not; leave it out"
            )
        if self.method == "clim":
            raise ValueError(
                f"{source} is no CLIP of OpenAI's layout with image and text tower, as CLIM's "
                "are; leave out --method"
            )


def _convert(
    source: Path, state: "Mapping[str, Tensor]", output: Path, origin: dict[str, str]
) -> tuple[list[list[str]], tuple[str, ...]]:
    """Write ``output`` from a file without a dense map; the report's rows, what was taken as given.

    Of CLIM's and CLIPSelf's, :class:`ModelsConvert` takes care.
    """
    from regionclip.checkpoints import is_native, save_tensors
    from regionclip.loading import mean_clip
    from regionclip.methods.cora import reading as cora
    from regionclip.methods.fvit import reading as fvit
    from regionclip.methods.regionclip.reading import model_of, read_model, save_model
    from regionclip.methods.regionclip.weights import recognise_checkpoint
    from regionclip.proposals.rpn_weights import map_rpn_weights

    if cora.is_cora_file(source, state):
        own = cora.read_model(source, state)
        cora.save_model(output, own.model, **origin)
        return [_row(own.report)], own.report.notes
    if mean_clip.is_mean_clip_file(source, state):
        mean = mean_clip.read_model(source, state)
        mean_clip.save_model(output, mean.model, **origin)
        return [_row(mean.report)], mean.report.notes
    if fvit.is_fvit_file(source, state):
        frozen = fvit.read_model(source, state)
        fvit.save_model(output, frozen.model, has_text_tower=frozen.has_text_tower, **origin)
        return [_row(frozen.report)], frozen.report.notes
    detector = _convert_detic(source, state, output, origin)
    if detector is not None:
        return [_row(detector)], detector.notes
    if is_native(source):
        read = read_model(source, state)
    else:
        found = recognise_checkpoint(state, source=str(source))
        if found.kind == "rpn":
            kept = map_rpn_weights(found.proposer, source=str(source))  # refuses incomplete ones
            save_tensors(output, found.proposer, origin)
            row = ["the proposer", str(len(kept.state_dict)), "0", summary_of(found.left_over)]
            return [row], ()
        if found.kind == "embeddings":
            raise ValueError(
                f"{source} holds class embeddings without names; in Python, "
                "Vocabulary.from_embedding_file(...) adds the names and .save(...) writes both"
            )
        read = model_of(found, source=str(source))
    save_model(output, read, **origin)
    rows = [_row(report) for report in read.reports]
    notes = tuple(note for report in read.reports for note in report.notes)
    return [*rows, ["the rest of the file", "0", "0", summary_of(read.left_over)]], notes


def _convert_detic(
    source: Path, state: "Mapping[str, Tensor]", output: Path, origin: dict[str, str]
) -> "LoadReport | None":
    """What became of a Detic's file, of either architecture; ``None`` if it is none."""
    from regionclip.methods.detic import cascade_reading as cascade
    from regionclip.methods.detic import reading as detic

    if detic.is_detic_file(source, state):
        own = detic.read_model(source, state)
        detic.save_model(output, own.model, has_text_tower=own.has_text_tower, **origin)
        return own.report
    if cascade.is_cascade_file(source, state):
        own = cascade.read_cascade(source, state)
        cascade.save_cascade(output, own.model, has_text_tower=own.has_text_tower, **origin)
        return own.report
    return None


def _row(report: "LoadReport") -> list[str]:
    """What became of a part: its name, tensors written, missing, and of no use."""
    return [
        report.target,
        str(len(report.loaded)),
        summary_of(report.missing),
        summary_of(report.left_over),
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(entry: "WeightsEntry", cache: Path | None) -> Path:
    from regionclip.weights import fetch_weights

    with downloads() as show:
        return fetch_weights(entry, cache_folder=cache, progress=show)


def _whereabouts(entry: "WeightsEntry", cache: Path | None) -> str:
    from regionclip.weights import default_cache_folder

    if entry.bundled:
        return "comes with the package"
    path = (cache or default_cache_folder()) / entry.file
    if path.is_file():
        return str(path)
    return "to download" if entry.url else "to fetch by hand"
