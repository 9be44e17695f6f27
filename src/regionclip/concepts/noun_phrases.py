"""The things that a caption names, found by textblob's offline tagger and chunker."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from .plurals import PLURAL_ONLY, singular

Keep = Literal["nouns", "phrases"]
LONGEST_CAPTION = 200
"""Words; what follows is cut. CLIP's text tower reads 77 tokens; longer texts are whole pages."""
LONGEST_CONCEPT = 5
"""Words; longer runs of nouns are lists of key words."""
COLORS = frozenset(
    {
        "aqua",
        "beige",
        "black",
        "blue",
        "brown",
        "burgundy",
        "cream",
        "crimson",
        "gold",
        "gray",
        "green",
        "grey",
        "khaki",
        "lavender",
        "magenta",
        "maroon",
        "navy",
        "orange",
        "pink",
        "plaid",
        "purple",
        "red",
        "rose",
        "silver",
        "tan",
        "teal",
        "turquoise",
        "violet",
        "white",
        "yellow",
    }
)
"""Before a noun they are adjectives, whatever the tagger says; alone they are no things."""
COLORED_THINGS = frozenset({"orange", "rose", "lavender", "cream"})
"""Colours that are things where they stand alone."""
WORD = re.compile(r"[^\W\d_]+(?:[-'][^\W\d_]+)*")
"""Letters, also with a hyphen or an apostrophe inside: no numbers, addresses or emoji."""
LATIN = re.compile(r"[a-z\u00df-\u024f'\- ]+")
"""The scripts that an English tagger has a chance with."""
LONGEST_COMPOUND = 3
"""Words of the longest entry among compounds that is found."""
_NOUNS = ("NN", "NNS", "NNP", "NNPS")
_PLURALS = ("NNS", "NNPS")
_ADJECTIVES = ("JJ", "JJR", "JJS", "VBN", "VBG")
_BEFORE_NOUNS = ("CD", "JJ", "PRP$")
_WITH_NOUNS = (*_NOUNS, "JJ", "CC")
"""What follows a verb between an article and its noun: ``a smiling man``."""
_VERBS = ("VB", "VBP", "VBG")
_ARTICLES = ("a", "an", "the")
_ALWAYS_NOUNS = ("sled", "moped")
_NEVER_NOUNS = ("is", "has", "does", "s")
_FORMS_OF_BE = ("is", "are", "was", "were", "be", "been")
_QUANTITIES = ("few", "couple", "dozen", "lot", "pair")
"""Words between ``a`` and a plural."""


@cache
def non_visual_nouns() -> frozenset[str]:
    """The shipped stop list."""
    return _word_list("non_visual_nouns.txt")


@cache
def compound_nouns() -> frozenset[str]:
    """The shipped compounds that are kept whole."""
    return _word_list("compound_nouns.txt")


@dataclass(frozen=True, kw_only=True, slots=True)
class PhraseRules:
    """What counts as a concept.

    Attributes:
        keep: ``nouns``: head nouns with the nouns before them (``fire hydrant``). ``phrases``:
            adjectives as well (``small red umbrella``).
        stop_words: Nouns that are no concepts; see ``assets/non_visual_nouns.txt``.
        compounds: Kept whole, whatever the tagger says; see ``assets/compound_nouns.txt``.
    """

    keep: Keep = "nouns"
    stop_words: frozenset[str] = field(default_factory=non_visual_nouns)
    compounds: frozenset[str] = field(default_factory=compound_nouns)


def noun_phrases(caption: str, rules: PhraseRules | None = None) -> tuple[str, ...]:
    """The concepts of a caption: in lower case, singular, each once, in the order of the caption.

    ``two men beside a red fire hydrant`` gives ``man`` and ``fire hydrant``. Numbers, pronouns,
    single letters, web addresses, emoji and words in other scripts than Latin give nothing. Words
    after the first :data:`LONGEST_CAPTION` are not read.

    Args:
        caption: Any text, also none; HTML entities and broken encodings are mended as CLIP's
            tokenizer mends them.
        rules: What counts; by default nouns without adjectives.

    Source:
        RegionCLIP (arXiv:2112.09106), sec. 3.2: a pool of object concepts parsed from captions by
        an off-the-shelf parser. Which words it kept is not published; the choice here is ours.
    """
    rules = PhraseRules() if rules is None else rules
    text = clean_caption(caption)
    if not text:
        return ()
    found: dict[str, None] = {}
    for sentence in _parser()(text):
        tokens = _with_compounds(sentence, rules.compounds)
        for phrase in _phrases_in(tokens, rules):
            found[phrase] = None
    return tuple(found)


def clean_caption(caption: str) -> str:
    """A caption in lower case, in one line, without entities, control characters and long tails."""
    import ftfy

    text = ftfy.fix_text(caption, unescape_html=True)
    return " ".join(text.lower().split()[:LONGEST_CAPTION])


def is_long(caption: str) -> bool:
    """Whether a caption has more words than are read."""
    return len(caption.split(maxsplit=LONGEST_CAPTION)) > LONGEST_CAPTION


def read_word_list(path: str | Path) -> frozenset[str]:
    """Read a list such as the shipped ones: one entry per line; ``#`` lines are passed over.

    Raises:
        ValueError: The file is missing or no text in UTF-8.
    """
    try:
        return _entries(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a list of words: {error}") from error


@dataclass(frozen=True, slots=True)
class _Token:
    """A word or a compound; ``begins`` tells that a new noun phrase begins with it."""

    word: str
    tag: str
    begins: bool
    in_phrase: bool

    @property
    def is_noun(self) -> bool:
        is_word = len(self.word) > 1 and WORD.fullmatch(self.word.replace(" ", "")) is not None
        return is_word and self.tag in _NOUNS

    @property
    def is_plural(self) -> bool:
        return self.tag in _PLURALS and self.word not in PLURAL_ONLY


def _with_compounds(sentence: Sequence[Sequence[str]], compounds: frozenset[str]) -> list[_Token]:
    """Tokens, in which the words of a compound are one noun."""
    first_words = _first_words(compounds)
    tokens: list[_Token] = []
    index = 0
    while index < len(sentence):
        word, tag, chunk = sentence[index][:3]
        count = 1
        if word in first_words and not _is_doing(tag, tokens):
            word, count = _compound_at(sentence[index : index + LONGEST_COMPOUND], compounds)
        tag = tag if count == 1 else "NN"
        tokens.append(_Token(word, tag, chunk == "B-NP", chunk.endswith("-NP") or count > 1))
        index += count
    return tokens


def _compound_at(words: Sequence[Sequence[str]], compounds: frozenset[str]) -> tuple[str, int]:
    """The longest compound that ``words`` begin with, singular, and its number of words."""
    for count in range(len(words), 1, -1):
        name = " ".join(each[0] for each in words[:count])
        for form in (name, singular(name)):
            if form in compounds:
                return form, count
    return words[0][0], 1


def _is_doing(tag: str, before: Sequence[_Token]) -> bool:
    """Whether a word in ``-ing`` is what somebody does, as in ``a man washing machine parts``."""
    return tag == "VBG" and bool(before) and (before[-1].is_noun or before[-1].word in _FORMS_OF_BE)


def _phrases_in(tokens: Sequence[_Token], rules: PhraseRules) -> list[str]:
    phrases = []
    index = 0
    while index < len(tokens):
        end = index
        while end < len(tokens) and tokens[end].is_noun:
            end += 1
        if end > index:
            run = _without_verbs(tokens[index:end], is_one=_follows_an_article(tokens, index))
            first = _first_adjective(tokens, index) if rules.keep == "phrases" else index
            for number, part in enumerate(run):
                adjectives = tokens[first:index] if number == 0 else ()
                phrases += _named_by([*adjectives, *part], rules)
        index = end + 1
    return phrases


def _without_verbs(run: Sequence[_Token], *, is_one: bool) -> list[Sequence[_Token]]:
    """Take from a run of nouns the verbs that a tagger takes for nouns.

    After ``a`` a plural cannot end the run: in ``a boy slides`` it is what he does. A plural ends
    a compound, so the run is parted after it, and a single singular behind it, as in ``dogs
    fight``, is what they do.
    """
    if is_one and len(run) > 1 and run[-1].is_plural and not run[-2].is_plural:
        run = run[:-1]
    parts: list[Sequence[_Token]] = []
    start = 0
    for index, token in enumerate(run):
        if token.is_plural or index == len(run) - 1:
            parts.append(run[start : index + 1])
            start = index + 1
    is_verb = len(parts) > 1 and len(parts[-1]) == 1 and not parts[-1][0].is_plural
    return parts[:-1] if is_verb else parts


def _follows_an_article(tokens: Sequence[_Token], index: int) -> bool:
    """Whether the noun phrase that goes on at ``index`` begins with ``a`` or ``an``."""
    while index > 0 and tokens[index].in_phrase and not tokens[index].begins:
        index -= 1
        if tokens[index].word in _QUANTITIES:
            return False
    return tokens[index].word in ("a", "an")


def _first_adjective(tokens: Sequence[_Token], index: int) -> int:
    """Where a phrase begins whose nouns begin at ``index``."""
    while (
        index > 0
        and not tokens[index].begins
        and tokens[index - 1].in_phrase
        and tokens[index - 1].tag in _ADJECTIVES
    ):
        index -= 1
    return index


def _named_by(run: Sequence[_Token], rules: PhraseRules) -> list[str]:
    """The concept of a run of nouns with its adjectives, if it is one."""
    words = [(each.word, each.tag) for each in run]
    while words and _singular_of(*words[-1]) in rules.stop_words:
        words.pop()
    while len(words) > 1 and _is_no_modifier(words[0][0], rules):
        words.pop(0)
    if not words or words[-1][1] not in _NOUNS:
        return []
    num_adjectives = sum(tag not in _NOUNS for _, tag in words)
    nouns = _singular_of(" ".join(word for word, _ in words[num_adjectives:]), words[-1][1])
    name = " ".join([*(word for word, _ in words[:num_adjectives]), nouns])
    is_named = nouns not in COLORS - COLORED_THINGS and len(name.split()) <= LONGEST_CONCEPT
    return [name] if is_named and LATIN.fullmatch(name) else []


def _singular_of(word: str, tag: str) -> str:
    """A word or compound, or its singular if the tagger says that it is a plural."""
    return singular(word) if tag in _PLURALS else word


def _is_no_modifier(word: str, rules: PhraseRules) -> bool:
    return word in rules.stop_words or (rules.keep == "nouns" and word in COLORS)


@cache
def _parser() -> Callable[[str], list[list[list[str]]]]:
    """Text to sentences of ``[word, tag, chunk, ...]``."""
    # nltk, which textblob imports, takes seconds
    from textblob.en import lexicon, parse

    with warnings.catch_warnings():
        # textblob leaves the files of its lexicon open, which it reads at the first word
        warnings.simplefilter("ignore", ResourceWarning)
        parse("a")

    def parsed(text: str) -> list[list[list[str]]]:
        # without lemmata=True: textblob 0.20 raises a NameError for every verb
        tagged: Any = parse(text, chunks=True)  # a string whose split() gives the tokens
        sentences = tagged.split()
        for sentence in sentences:
            _mend_tags(sentence, lexicon)
        return sentences

    return parsed


def _mend_tags(sentence: list[list[str]], lexicon: Mapping[str, str]) -> None:
    """Correct what the tagger gets wrong in captions."""
    before = ["", ""]
    for token, after in zip(sentence, [*sentence[1:], ["", ""]], strict=True):
        word, tag = token[0], token[1]
        if tag == "NN" and word not in lexicon:
            # captions are lower-cased, and the lexicon has "Asian"
            token[1] = "JJ" if lexicon.get(word.capitalize()) == "JJ" else tag
        elif word in _ALWAYS_NOUNS or (tag == "VB" and before[1] in ("JJ", "PRP$")):
            token[1:3] = ["NN", "I-NP"]  # "a wooden stick", "her sled"
        elif tag == "VBZ" and before[1] in _BEFORE_NOUNS and word not in _NEVER_NOUNS:
            token[1:3] = ["NNS", "I-NP"]  # "two sinks"
        elif _is_misread(word, tag) and before[0] in _ARTICLES and after[1] not in _WITH_NOUNS:
            token[1:3] = ["NN", "I-NP"]  # "a stick", "an awning", "an orange"
        before = token


def _is_misread(word: str, tag: str) -> bool:
    return tag in _VERBS or word in COLORED_THINGS


@cache
def _first_words(compounds: frozenset[str]) -> frozenset[str]:
    return frozenset(each.split()[0] for each in compounds)


def _word_list(name: str) -> frozenset[str]:
    return _entries((files("regionclip") / "assets" / name).read_text(encoding="utf-8"))


def _entries(text: str) -> frozenset[str]:
    lines = (line.strip().lower() for line in text.splitlines())
    return frozenset(line for line in lines if line and not line.startswith("#"))
