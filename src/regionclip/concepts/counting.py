"""Captions to counts: how many captions name each concept."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context

from .noun_phrases import PhraseRules, is_long, noun_phrases

CAPTIONS_PER_TASK = 2000
REPLACEMENT = "\ufffd"
"""What readers put where bytes are no text."""


@dataclass(frozen=True, slots=True)
class ConceptCounts:
    """What was found in captions.

    Attributes:
        counts: Captions that name a concept, by its name. One that names it twice counts once.
        num_captions: All that were read.
        num_empty: Of these, blank ones.
        num_cut: Of these, those of which only the first
            :data:`~regionclip.concepts.noun_phrases.LONGEST_CAPTION` words were read.
        num_damaged: Of these, those with bytes that are no text.
        num_without: Of these, those that name no concept, blank ones among them.
    """

    counts: Counter[str]
    num_captions: int = 0
    num_empty: int = 0
    num_cut: int = 0
    num_damaged: int = 0
    num_without: int = 0


def count_concepts(
    captions: Iterable[str],
    rules: PhraseRules | None = None,
    *,
    num_processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> ConceptCounts:
    """Count the concepts of any number of captions.

    Args:
        captions: In any order; the result does not depend on it.
        rules: What counts as a concept; see :func:`noun_phrases`.
        num_processes: One parses here. More are started and take shares; each needs a few seconds
            to start, so they pay from about 100 000 captions on.
        progress: Called now and then with the number of captions that were done since.
    """
    rules = PhraseRules() if rules is None else rules
    total = ConceptCounts(Counter())
    for part in _parts(_chunks(captions), rules, num_processes):
        total.counts.update(part.counts)
        total = ConceptCounts(
            total.counts,
            total.num_captions + part.num_captions,
            total.num_empty + part.num_empty,
            total.num_cut + part.num_cut,
            total.num_damaged + part.num_damaged,
            total.num_without + part.num_without,
        )
        if progress is not None:
            progress(part.num_captions)
    return total


def _chunks(captions: Iterable[str]) -> Iterator[Sequence[str]]:
    iterator = iter(captions)
    while chunk := tuple(islice(iterator, CAPTIONS_PER_TASK)):
        yield chunk


def _parts(
    chunks: Iterable[Sequence[str]], rules: PhraseRules, num_processes: int
) -> Iterator[ConceptCounts]:
    count = partial(_count, rules=rules)
    if num_processes == 1:
        yield from map(count, chunks)
        return
    # spawned: a fork of a process with torch's threads may hang
    with ProcessPoolExecutor(num_processes, mp_context=get_context("spawn")) as executor:
        yield from executor.map(count, chunks)


def _count(captions: Sequence[str], rules: PhraseRules) -> ConceptCounts:
    counts: Counter[str] = Counter()
    num_without = 0
    for caption in captions:
        concepts = noun_phrases(caption, rules)
        counts.update(concepts)
        num_without += not concepts
    return ConceptCounts(
        counts,
        num_captions=len(captions),
        num_empty=sum(not each.strip() for each in captions),
        num_cut=sum(map(is_long, captions)),
        num_damaged=sum(REPLACEMENT in each for each in captions),
        num_without=num_without,
    )
