from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from regionclip.demo.models import Choice, Models
from regionclip.loading import kinds
from regionclip.loading import regionclip as reading
from regionclip.methods.regionclip.reading import ReadModel, save_model
from tests.tiny import tiny_model


def saved(path: Path, *, has_text_tower: bool) -> str:
    save_model(path, ReadModel(tiny_model(), has_text_tower=has_text_tower, reports=()))
    return str(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(tmp_path_factory.mktemp("whole") / "whole.safetensors", has_text_tower=True)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(tmp_path_factory.mktemp("tuned") / "tuned.safetensors", has_text_tower=False)


def test_a_model_without_words_is_refused_at_the_start(whole: str, tuned: str) -> None:
    with pytest.raises(ValueError, match=r"tuned\.safetensors cannot be used here.*--text-weights"):
        Models((whole, tuned)).open_at_start()


def test_text_weights_are_lent_to_models_without_a_text_tower_alone(whole: str, tuned: str) -> None:
    models = Models((tuned, whole), text_weights=whole)
    models.open_at_start()
    lent, own = (models.open(Choice(name)) for name in (tuned, whole))
    assert len(lent.vocabulary(["cat"])) == 1
    assert lent.encoder_id == own.encoder_id


def test_downloads_are_shown_of_models_and_of_what_lends_them_words(
    whole: str, tuned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []

    def show(name: str, received: int, total: int | None) -> None:
        found.append(name)

    def find(name: str, *, progress: Callable[[str, int, int | None], None] | None) -> Path:
        assert progress is not None
        progress(Path(name).name, 1, None)
        return Path(name)

    monkeypatch.setattr(kinds, "find_weights", find)
    monkeypatch.setattr(reading, "find_weights", find)
    Models((tuned,), text_weights=whole, downloads=lambda: nullcontext(show)).open_at_start()
    assert found == ["tuned.safetensors", "tuned.safetensors", "whole.safetensors"]


def test_unknown_text_weights_are_refused_though_no_model_needs_them(whole: str) -> None:
    with pytest.raises(ValueError, match=r"nothing\.pth"):
        Models((whole,), text_weights="nothing.pth").open_at_start()
