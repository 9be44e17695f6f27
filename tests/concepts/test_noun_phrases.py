import json
import subprocess
import sys
from pathlib import Path

import pytest

from regionclip.concepts.noun_phrases import (
    LONGEST_CAPTION,
    PhraseRules,
    clean_caption,
    compound_nouns,
    is_long,
    non_visual_nouns,
    noun_phrases,
    read_word_list,
)
from regionclip.concepts.plurals import singular
from regionclip.data.icons import CLASS_NAMES
from regionclip.data.icons.glyphs import plural, with_article

COCO = Path(__file__).parents[3] / "shared" / "data" / "coco_clean"


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A small red umbrella left of two anchors", ("umbrella", "anchor")),
        (
            "two men beside a red fire hydrant on a city street .",
            ("man", "fire hydrant", "city street"),
        ),
        ("A woman's dog with a remote control", ("woman", "dog", "remote control")),
        ("hot dogs and wine glasses", ("hot dog", "wine glass")),
        ("a group of people in front of a parking lot", ("person", "parking lot")),
        ("a bathroom area with two sinks and an old stick", ("bathroom", "sink", "stick")),
        ("An Asian woman in an orange jacket eats an orange", ("woman", "jacket", "orange")),
        ("A Dog And A DOG, and dogs", ("dog",)),
        ("jeans, scissors and sunglasses", ("jeans", "scissors", "sunglasses")),
    ],
)
def test_a_caption_gives_its_nouns(caption: str, expected: tuple[str, ...]) -> None:
    assert noun_phrases(caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A boy slides down", ("boy",)),
        ("two dogs fight", ("dog",)),
        ("riders guide their horses", ("rider", "horse")),
        ("a few dog toys", ("dog toy",)),
        ("a man washing machine parts", ("man", "machine")),
        ("a man and a washing machine", ("man", "washing machine")),
    ],
)
def test_what_somebody_does_is_no_thing(caption: str, expected: tuple[str, ...]) -> None:
    assert noun_phrases(caption) == expected


def test_phrases_keep_adjectives() -> None:
    found = noun_phrases(
        "A small red umbrella left of two old anchors and the front side",
        PhraseRules(keep="phrases"),
    )
    assert found == ("small red umbrella", "old anchor")


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "  \n\t ",
        "He and she and they",
        "3 , 4 , 500",
        "a b c x",
        "\u4e00\u53ea\u72d7\u5728\u8349\u5730\u4e0a",
        "\U0001f436 \U0001f600\ufe0f",
        "https://example.com/a.jpg",
        "\x00\x01\x7f",
        "\ud800",
        "!!!???",
        "the front of a group",
    ],
)
def test_a_caption_without_things_gives_none(caption: str) -> None:
    assert noun_phrases(caption) == ()


def test_entities_and_broken_encodings_are_mended() -> None:
    assert noun_phrases("a dog &amp; a cat") == ("dog", "cat")
    assert noun_phrases("a caf\u00c3\u00a9 with a b\ufffdll") == ("caf\u00e9",)
    assert clean_caption("A\u00a0 dog\r\n\u201cruns\u201d") == 'a dog "runs"'


def test_words_after_the_two_hundredth_are_not_read() -> None:
    words = ["the dog"] * (LONGEST_CAPTION // 2)
    assert not is_long(" ".join(words))
    assert noun_phrases(" ".join([*words, "a cat"])) == ("dog",)
    assert is_long(" ".join([*words, "a"]))
    assert is_long("word " * 100_000)


def test_own_lists_take_the_place_of_the_shipped_ones(tmp_path: Path) -> None:
    path = tmp_path / "stop.txt"
    path.write_text("# mine\n\nDog\n")
    rules = PhraseRules(stop_words=read_word_list(path), compounds=frozenset({"old front"}))
    assert noun_phrases("a dog at the front of the old front", rules) == ("front", "old front")


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "stop.txt"
    with pytest.raises(ValueError, match=r"stop\.txt cannot be read as a list of words"):
        read_word_list(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"stop\.txt cannot be read as a list of words"):
        read_word_list(path)


def test_the_shipped_lists_do_not_contradict_each_other() -> None:
    assert not non_visual_nouns() & compound_nouns()
    assert {each for each in compound_nouns() if " " not in each} <= {"t-shirt"}
    assert {each for each in compound_nouns() if singular(each) != each} == set()


def test_every_class_of_the_icons_is_found_alone_and_in_the_plural() -> None:
    missed = [
        name
        for name in CLASS_NAMES
        if name not in noun_phrases(with_article(name))
        or name not in noun_phrases(f"two {plural(name)} above a snowflake")
    ]
    # dice have no singular that people use, and a conjunction parts what it joins
    assert missed == ["die", "hammer and pick"]


def test_no_parser_is_imported_before_the_first_caption() -> None:
    code = (
        "import sys; import regionclip.concepts.noun_phrases as n; n.PhraseRules();"
        "assert not {'textblob', 'nltk', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_real_captions_name_what_is_in_the_picture() -> None:
    if not COCO.is_dir():
        pytest.skip(f"real captions are missing: {COCO}")
    rows = json.loads((COCO / "captions_val.json").read_text())["annotations"]
    found = [noun_phrases(row["caption"]) for row in rows]
    assert sum(not each for each in found) < 0.02 * len(found)
    assert sum(map(len, found)) > 2.5 * len(found)
