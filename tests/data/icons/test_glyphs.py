import unicodedata

import numpy as np
import pytest

from regionclip.data.icons.glyphs import (
    BASE_NAMES,
    CLASS_NAMES,
    GLYPHS,
    NOVEL_NAMES,
    glyph_mask,
    plural,
    rotated_mask,
    with_article,
)


def test_three_quarters_of_the_classes_are_base() -> None:
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == 48
    assert len(BASE_NAMES) == 3 * len(NOVEL_NAMES) == 36
    assert set(BASE_NAMES) | set(NOVEL_NAMES) == set(CLASS_NAMES)


def test_every_icon_is_a_named_character_with_a_shape_of_its_own() -> None:
    shapes = {glyph_mask(name).resize((24, 24)).tobytes() for name in CLASS_NAMES}
    assert len(shapes) == len(CLASS_NAMES)
    assert all(unicodedata.name(character) for character in GLYPHS.values())


def test_a_mask_is_cropped_to_its_ink() -> None:
    ink = np.asarray(glyph_mask("anchor")) > 0
    assert ink[0].any()
    assert ink[-1].any()
    assert ink[:, 0].any()
    assert ink[:, -1].any()
    assert max(ink.shape) == 160


def test_a_quarter_turn_swaps_the_sides() -> None:
    upright = rotated_mask("umbrella", longest=60, degrees=0.0)
    turned = rotated_mask("umbrella", longest=60, degrees=90.0)
    assert max(upright.size) == pytest.approx(60, abs=1)
    assert turned.size == pytest.approx(upright.size[::-1], abs=2)


def test_an_unknown_icon_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"no icon is called 'zeppelin'.*umbrella"):
        glyph_mask("zeppelin")


def test_words_around_names() -> None:
    assert with_article("anchor") == "an anchor"
    assert with_article("red anchor") == "a red anchor"
    assert [plural("anchor"), plural("die"), plural("scissors")] == ["anchors", "dice", "scissors"]
