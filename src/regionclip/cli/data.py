"""``regionclip data``: data sets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from regionclip.cli.console import console, progress


@dataclass(frozen=True, kw_only=True)
class DataIcons:
    """Draw scenes of named icons with their boxes and captions, as a COCO data set.

    For example:

        regionclip data icons --output scenes --num-scenes 100 --domain fog
    """

    output: Path
    """Folder to write ``images/``, ``instances.json`` and ``captions.json`` into."""
    num_scenes: int = 100
    """Scenes to draw."""
    seed: int = 0
    """The same seed draws the same pixels; never those that the shipped model was trained on."""
    domain: Literal["day", "night", "dusk_rain", "night_rain", "fog"] = "day"
    """Light and weather."""

    def run(self) -> int:
        """Draw the scenes and say where they are."""
        from regionclip.data.icons import write_coco

        with progress("Drawing scenes", self.num_scenes) as advance:
            write_coco(
                self.output,
                num_scenes=self.num_scenes,
                seed=self.seed,
                domain=self.domain,
                progress=advance,
            )
        console.print(f"{self.num_scenes} scenes with boxes and captions in {self.output}")
        return 0
