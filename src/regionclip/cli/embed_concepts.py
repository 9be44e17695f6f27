"""``regionclip embed-concepts``: names to vectors, once, for any number of images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from regionclip.cli.console import UsageError, console, downloads, progress
from regionclip.cli.options import check_counts, optional, value
from regionclip.cli.running import DEFAULT_MODEL


@dataclass(frozen=True, kw_only=True)
class EmbedConcepts:
    """Encode names into a vocabulary that detect and embed-regions take as --classes.

    For example:

        regionclip embed-concepts names.txt --output vocabulary.safetensors

        regionclip embed-concepts lvis1203 --output concept_embeds.pth
    """

    names: Annotated[Positional[str], optional("FILE|NAMES|LIST")]
    """A file with one name per line, 'cat, remote control', or a built-in list such as coco80."""
    output: Annotated[Path, value("FILE")]
    """'.safetensors' keeps names, prompts and encoder with the vectors; '.pth' is the bare tensor
    that RegionCLIP's export makes, (N, D) also for one name, in the order of the names."""
    model: Annotated[str, value("NAME|FILE")] = DEFAULT_MODEL
    """Whose text tower encodes: a name that 'regionclip models list' shows, or a checkpoint."""
    templates: Annotated[str, value("NAME|TEXT|FILE")] = "imagenet80"
    """Prompts that names are put into: imagenet80, openai80, vild63, name-and-photo, photo, none,
    your own such as 'a photo of a {}.', or a file of them. The vectors of all prompts are
    averaged."""
    batch_size: Annotated[int, value("N")] = 256
    """Prompts encoded at a time."""
    device: Annotated[str, value("NAME")] = "auto"
    """cpu, cuda, cuda:1, mps, or auto: a GPU if there is one."""

    def run(self) -> int:
        """Encode and write."""
        import torch

        from regionclip.cli.classes import parse_names, parse_templates
        from regionclip.cli.devices import checked_device
        from regionclip.loading import LoadOptions, load
        from regionclip.vocabulary import Vocabulary
        from regionclip.whole_files import replacing

        if self.output.suffix not in (".safetensors", ".pth"):
            raise UsageError(f"--output {self.output}: must end in .safetensors or .pth")
        check_counts(self, "batch_size")
        names, templates = parse_names(self.names), parse_templates(self.templates)
        device = checked_device(self.device)
        with downloads() as show:
            detector = load(self.model, device=device, options=LoadOptions(progress=show))
        with progress("Encoding prompts", len(names) * len(templates)) as advance:
            vocabulary = Vocabulary.from_names(
                names,
                detector.parts.encoder,
                templates=templates,
                batch_size=self.batch_size,
                progress=advance,
            )
        if self.output.suffix == ".pth":
            with replacing(self.output) as partial:
                torch.save(vocabulary.embeddings, partial)
        else:
            vocabulary.save(self.output)
        console.print(
            f"{len(names)} names in {len(templates)} prompts each, by {vocabulary.encoder_id}: "
            f"{self.output}",
            markup=False,
            soft_wrap=True,
        )
        return 0
