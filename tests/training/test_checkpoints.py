from pathlib import Path

import pytest
import torch

from regionclip.training.checkpoints import claim_folder, load_state, save_state


def test_a_state_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "stage.pt"
    assert load_state(path) is None
    save_state(path, {"steps_done": 3, "learner": {"weight": torch.ones(2)}})
    state = load_state(path)
    assert state is not None
    assert state["steps_done"] == 3
    assert [each.name for each in path.parent.iterdir()] == ["stage.pt"]


def test_a_save_that_fails_leaves_the_old_state(tmp_path: Path) -> None:
    path = tmp_path / "stage.pt"
    save_state(path, {"steps_done": 3})
    with pytest.raises((AttributeError, TypeError)):
        save_state(path, {"steps_done": lambda: 4})
    assert load_state(path) == {"steps_done": 3}
    assert [each.name for each in tmp_path.iterdir()] == ["stage.pt"]


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    path = tmp_path / "stage.pt"
    save_state(path, {"learner": torch.ones(1000)})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"stage.pt is damaged .* remove it to begin its stage"):
        load_state(path)


def test_a_folder_belongs_to_one_recipe(tmp_path: Path) -> None:
    claim_folder(tmp_path / "run", {"seed": 0, "model": {"width": 3}})
    claim_folder(tmp_path / "run", {"seed": 0, "model": {"width": 3}})
    with pytest.raises(ValueError, match=r"another recipe \(model.width was 3, now 4\)"):
        claim_folder(tmp_path / "run", {"seed": 0, "model": {"width": 4}})
