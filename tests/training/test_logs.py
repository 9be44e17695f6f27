import json
from pathlib import Path

import pytest

from regionclip.training.logs import Logs


def entries(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_resumed_run_forgets_what_it_does_again(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    for step in (1, 2, 3):
        logs.write("captions", step, {"loss": 0.5})
    logs.write("regions", 1, {"loss": 0.25})
    with logs.path.open("a") as file:
        file.write('{"stage": "regions", "st')  # cut off by a kill
    logs.rewind("captions", 1)
    assert [(each["stage"], each["step"]) for each in entries(logs.path)] == [
        ("captions", 1),
        ("regions", 1),
    ]
    logs.write("captions", 2, {"loss": 0.4})
    assert entries(logs.path)[-1] == {"stage": "captions", "step": 2, "loss": 0.4}


def test_tensorboard_gets_the_same_figures(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="TensorBoard is not installed; pip install regionclip[track]",
    )
    logs = Logs(tmp_path, tensorboard=True)
    logs.write("captions", 3, {"loss": 0.5, "evaluation": {"ap50": 0.1}, "ap50": 0.1})
    read = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert set(read.Tags()["scalars"]) == {"captions/loss", "captions/ap50"}
    (event,) = read.Scalars("captions/loss")
    assert (event.step, event.value) == (3, 0.5)
