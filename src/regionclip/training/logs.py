"""What happened at which step: JSON lines that a resumed run goes on with, and TensorBoard."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regionclip.whole_files import replacing

FILE = "metrics.jsonl"


class Logs:
    """``metrics.jsonl`` in a folder, one line per entry; the same figures for TensorBoard."""

    def __init__(self, folder: Path, *, tensorboard: bool = False) -> None:
        """Append to what is there.

        Raises:
            ValueError: TensorBoard is asked for and not installed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        self._board = _summary_writer(folder) if tensorboard else None

    def write(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        """Add an entry.

        Args:
            stage: Part of the run.
            step: Steps of the stage that are done.
            values: Plain data; numbers go to TensorBoard too.
        """
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": stage, "step": step, **values}) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{stage}/{name}", value, step)
            self._board.flush()

    def rewind(self, stage: str, step: int) -> None:
        """Forget what a stage did after ``step``: a run that resumes there does it again."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # cut off when the run was killed
                continue
            if entry["stage"] != stage or entry["step"] <= step:
                kept.append(line)
        with replacing(self.path) as partial:
            partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _summary_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            'TensorBoard is not installed; pip install "regionclip[track]", or leave it out'
        ) from error
    return SummaryWriter(str(folder / "tensorboard"))
