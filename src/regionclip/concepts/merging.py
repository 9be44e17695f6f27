"""Counts of concepts to the pool's list: names of one thing together, rare ones out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .class_names import plain_name
from .noun_phrases import compound_nouns
from .plurals import may_be_plural, number_forms, singular


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeRules:
    """What becomes one concept, and what stays out.

    Attributes:
        min_count: Captions that must name a concept. The paper's pools have those of 100.
        synonyms: Other name by name, as :func:`~regionclip.concepts.synonyms.read_synonyms` reads
            them: ``puppy = dog`` counts puppies as dogs.
        exclude: Names that stay out, with every concept that contains one as words: ``umbrella``
            keeps out ``umbrella`` and ``beach umbrella``.
        compounds: Never shortened to their last word: a ``hot dog`` is no dog.

    Raises:
        ValueError: ``min_count`` is less than 1.
    """

    min_count: int = 5
    synonyms: Mapping[str, str] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    compounds: frozenset[str] = field(default_factory=compound_nouns)

    def __post_init__(self) -> None:
        if self.min_count < 1:
            raise ValueError(f"min_count must be at least 1, got {self.min_count}")


@dataclass(frozen=True, slots=True)
class MergedConcepts:
    """The concepts of a pool.

    Attributes:
        counts: By name, the most frequent first; of the same count, by name.
        excluded: Names that would be there, and stay out because they were to.
        num_rare: Names that too few captions have.
    """

    counts: dict[str, int]
    excluded: tuple[str, ...]
    num_rare: int


def merge_concepts(counts: Mapping[str, int], rules: MergeRules) -> MergedConcepts:
    """Choose the concepts of a pool.

    In this order: a plural counts as its singular, if captions have that too; a name counts as its
    synonym; a compound that is too rare counts as what it is a kind of (``luggage cart`` as
    ``cart``); what is still too rare goes, and then what is to stay out. Counts that come together
    are added, so a caption that has both names counts twice.
    """
    synonyms = {plain_name(name): plain_name(other) for name, other in rules.synonyms.items()}
    merged: Counter[str] = Counter()
    for name, count in counts.items():
        merged[_common_name(name, counts, synonyms)] += count
    _shorten_rare(merged, rules, synonyms)
    frequent = {name: count for name, count in merged.items() if count >= rules.min_count}
    ordered = sorted(frequent, key=lambda name: (-frequent[name], name))
    kept = without_names(ordered, rules.exclude)
    return MergedConcepts(
        counts={name: frequent[name] for name in kept},
        excluded=tuple(sorted(set(ordered) - set(kept))),
        num_rare=sum(count < rules.min_count for count in merged.values()),
    )


def without_names(concepts: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The concepts that contain none of ``names`` as whole words, in the singular or the plural."""
    unwanted = {form for name in names for form in number_forms(plain_name(name))}
    return tuple(each for each in concepts if unwanted.isdisjoint(_parts_of(plain_name(each))))


def _parts_of(concept: str) -> set[str]:
    """All runs of words in a concept, as they are and with the last word in the singular."""
    words = concept.split()
    runs = [
        " ".join(words[start:end])
        for start in range(len(words))
        for end in range(start + 1, len(words) + 1)
    ]
    return {form for run in runs for form in number_forms(run)}


def _common_name(name: str, counts: Mapping[str, int], synonyms: Mapping[str, str]) -> str:
    if may_be_plural(name) and singular(name) in counts:
        name = singular(name)
    return synonyms.get(name, name)


def _shorten_rare(counts: Counter[str], rules: MergeRules, synonyms: Mapping[str, str]) -> None:
    """Count rare compounds, the longest first, by their last words."""
    longest = max((len(name.split()) for name in counts), default=0)
    for num_words in range(longest, 1, -1):
        for name in [each for each in counts if len(each.split()) == num_words]:
            if counts[name] < rules.min_count and name not in rules.compounds:
                shorter = _shortened(name, rules.compounds)
                counts[synonyms.get(shorter, shorter)] += counts.pop(name)


def _shortened(name: str, compounds: frozenset[str]) -> str:
    """A compound without its first word, or without the compound that it begins with.

    So a ``dining room table`` is a table, and not a ``room table``.
    """
    words = name.split()
    first = 1
    for count in range(2, len(words)):
        if " ".join(words[:count]) in compounds:
            first = count
    return " ".join(words[first:])
