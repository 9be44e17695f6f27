"""``regionclip concepts``: captions to a concept pool, and what is in one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional

from regionclip.cli.console import UsageError, console, downloads, errors, print_table, progress
from regionclip.cli.options import check_counts, optional, value
from regionclip.cli.running import DEFAULT_MODEL

if TYPE_CHECKING:
    from regionclip.concepts.counting import ConceptCounts
    from regionclip.concepts.merging import MergeRules
    from regionclip.concepts.noun_phrases import PhraseRules
    from regionclip.data.caption_texts import CaptionTexts
    from regionclip.encoders.text import TextEncoder
    from regionclip.vocabulary import Vocabulary

UNREADABLE_NAMED = 5
"""Captions that cannot be read, of so many it is said why; all are counted."""


@dataclass(frozen=True, kw_only=True)
class ConceptsBuild:
    """Make a concept pool: the things that captions name, with their counts and vectors.

    Nouns and compounds are found by textblob's offline parser, in the singular, without adjectives
    and without words that show nothing (front, side, group, photo). Look at what it makes of your
    captions with --show-captions 20.

    For example:

        regionclip concepts build captions_train2017.json --output pool.safetensors

        regionclip concepts build shards/ --split train --student openai:RN50 --teacher
        openai:RN50x4 --exclude coco17 --output pool.safetensors
    """

    source: Annotated[Positional[str], value("SOURCE")]
    """Captions: a COCO captions json, a csv or tsv, webdataset shards, also 'cc3m/*.tar' and
    's3://bucket/cc3m/{00000..00331}.tar' (with regionclip[remote]). Or the concepts themselves: a
    .txt with one per line, or a built-in list such as lvis1203."""
    output: Annotated[Path, value("FILE.safetensors")]
    """The pool: names, counts, and the vectors of both towers. Other commands take it as --classes
    for the student."""
    student: Annotated[str, value("NAME|FILE")] = DEFAULT_MODEL
    """Model to be pretrained: a name that 'regionclip models list' shows, or a checkpoint."""
    teacher: Annotated[str | None, optional("NAME|FILE")] = None
    """Model that matches regions to concepts; by default the student's vectors serve both."""
    templates: Annotated[str, value("NAME|TEXT|FILE")] = "imagenet80"
    """Prompts that concepts are put into: imagenet80, openai80, vild63, name-and-photo, photo,
    none, your own such as 'a photo of a {}.', or a file of them. The vectors of all prompts are
    averaged."""
    keep: Literal["nouns", "phrases"] = "nouns"
    """'phrases' keeps the adjectives: 'small red umbrella'."""
    min_count: Annotated[int, value("N")] = 5
    """Captions that must name a concept; the paper's pools have 100. A compound that is too rare
    counts as its last word."""
    synonyms: Annotated[str | None, optional("FILE")] = None
    """A file with lines such as 'puppy = dog': the first counts as the second."""
    exclude: Annotated[str | None, optional("FILE|NAMES|LIST")] = None
    """Concepts to keep out, such as the classes you will test on (coco17): a file with one per
    line, names with commas, or a built-in list. By default nothing, as in the paper."""
    stop_words: Annotated[Path | None, optional("FILE")] = None
    """Nouns that are no concepts, one per line, instead of the list that comes with the package."""
    split: Annotated[str | None, optional("NAME")] = None
    """Part of a folder: train, val, ..."""
    cache: Annotated[str | None, optional("FOLDER")] = None
    """Where shards from object storage are kept, by default in the home folder; pretraining finds
    them there if its data.cache is the same."""
    show_captions: Annotated[int, value("N")] = 0
    """Print N captions, evenly spread, beside the concepts found in them."""
    processes: Annotated[int, value("N")] = 1
    """Processes that parse; more pay from about 100 000 captions on."""
    batch_size: Annotated[int, value("N")] = 256
    """Prompts encoded at a time."""
    device: Annotated[str, value("NAME")] = "auto"
    """cpu, cuda, cuda:1, mps, or auto: a GPU if there is one."""

    def run(self) -> int:
        """Read, count, encode and write."""
        from regionclip.cli.classes import parse_templates
        from regionclip.concepts.pool import ConceptPool

        self._check()
        templates = parse_templates(self.templates)
        rules, phrases = self._merge_rules(), self._phrase_rules()
        # before minutes of reading: a model that is not there is better known now
        student = self._text_tower(self.student)
        teacher = None if self.teacher is None else self._text_tower(self.teacher)
        counts, num_captions, num_failures = self._concepts(rules, phrases)
        vocabulary = self._encoded(tuple(counts), student, templates)
        own_rows = None
        if teacher is not None and teacher.encoder_id != vocabulary.encoder_id:
            own_rows = self._encoded(tuple(counts), teacher, templates)
        pool = ConceptPool(
            vocabulary,
            tuple(counts.values()),
            num_captions,
            own_rows,
            self._made_with(rules),
        )
        pool.save(self.output)
        encoders = dict.fromkeys((vocabulary.encoder_id, pool.teacher_vocabulary.encoder_id))
        line = f"{len(pool)} concepts in {len(templates)} prompts each, by {' and '.join(encoders)}"
        console.print(f"{line}: {self.output}", markup=False, soft_wrap=True)
        return 1 if num_failures else 0

    def _check(self) -> None:
        if self.output.suffix != ".safetensors":
            raise UsageError(f"--output {self.output}: must end in .safetensors")
        check_counts(self, "min_count", "processes", "batch_size")
        if self.show_captions < 0:
            raise UsageError(f"--show-captions must be at least 0, got {self.show_captions}")

    def _merge_rules(self) -> "MergeRules":
        from regionclip.cli.classes import parse_names
        from regionclip.concepts.merging import MergeRules
        from regionclip.concepts.synonyms import read_synonyms

        return MergeRules(
            min_count=self.min_count,
            synonyms={} if self.synonyms is None else read_synonyms(self.synonyms),
            exclude=() if self.exclude is None else parse_names(self.exclude),
        )

    def _phrase_rules(self) -> "PhraseRules":
        from regionclip.concepts.noun_phrases import PhraseRules, non_visual_nouns, read_word_list

        own = None if self.stop_words is None else read_word_list(self.stop_words)
        return PhraseRules(keep=self.keep, stop_words=non_visual_nouns() if own is None else own)

    def _text_tower(self, model: str) -> "TextEncoder":
        from regionclip.cli.devices import checked_device
        from regionclip.loading import LoadOptions, load

        with downloads() as show:
            options = LoadOptions(progress=show)
            encoder = load(model, device=checked_device(self.device), options=options).parts.encoder
        encoder.tokenize(["a"])  # raises where there is no text tower
        return encoder

    def _concepts(
        self, rules: "MergeRules", phrases: "PhraseRules"
    ) -> tuple[Mapping[str, int], int, int]:
        """Counts by concept, the number of captions, and that of shards left out."""
        from regionclip.concepts.merging import merge_concepts, without_names

        listed = names_in_list(self.source)
        if listed is not None:
            kept = without_names(listed, rules.exclude)
            if not kept:
                raise UsageError(f"--exclude keeps out all {len(listed)} names of {self.source}")
            excluded = f", {len(listed) - len(kept)} excluded" if len(kept) < len(listed) else ""
            console.print(f"{len(listed)} names{excluded}", markup=False)
            return dict.fromkeys(kept, 0), 0, 0
        captions = self._read()
        found = self._counted(captions, phrases)
        merged = merge_concepts(found.counts, rules)
        print_counts(captions, found)
        line = f"{len(found.counts)} different concepts: {len(merged.counts)} in the pool, "
        line += f"{merged.num_rare} in fewer than {self.min_count} captions"
        line += f", {len(merged.excluded)} excluded" if rules.exclude else ""
        console.print(line, markup=False, soft_wrap=True)
        if not merged.counts:
            raise ValueError(
                f"no concept of {self.source} is named by {self.min_count} captions; give more "
                "captions or a lower --min-count"
            )
        return merged.counts, found.num_captions, len(captions.failures) + len(captions.unreadable)

    def _read(self) -> "CaptionTexts":
        from regionclip.data.caption_texts import read_captions
        from regionclip.data.shard_cache import shared_cache

        with progress("Reading captions", None) as advance:
            captions = read_captions(
                self.source, split=self.split, cache=shared_cache(self.cache), progress=advance
            )
        for each in (*captions.failures, *captions.unreadable[:UNREADABLE_NAMED]):
            errors.print(f"left out: {each}", markup=False, soft_wrap=True)
        return captions

    def _counted(self, captions: "CaptionTexts", rules: "PhraseRules") -> "ConceptCounts":
        from regionclip.concepts.counting import count_concepts
        from regionclip.concepts.noun_phrases import noun_phrases

        with progress("Finding concepts", len(captions.texts)) as advance:
            found = count_concepts(
                captions.texts, rules, num_processes=self.processes, progress=advance
            )
        shown = evenly_spread(captions.texts, self.show_captions)
        if shown:
            rows = [(text, ", ".join(noun_phrases(text, rules))) for text in shown]
            print_table("Captions and their concepts", ("caption", "concepts"), rows)
        return found

    def _encoded(
        self, names: tuple[str, ...], encoder: "TextEncoder", templates: Sequence[str]
    ) -> "Vocabulary":
        from regionclip.vocabulary import Vocabulary

        with progress("Encoding prompts", len(names) * len(templates)) as advance:
            return Vocabulary.from_names(
                names, encoder, templates=templates, batch_size=self.batch_size, progress=advance
            )

    def _made_with(self, rules: "MergeRules") -> dict[str, Any]:
        return {
            "source": Path(self.source).name,
            "split": self.split,
            "keep": self.keep,
            "min_count": rules.min_count,
            "synonyms": dict(rules.synonyms),
            "exclude": list(rules.exclude),
            "own_stop_words": self.stop_words is not None,
        }


@dataclass(frozen=True, kw_only=True)
class ConceptsShow:
    """Show the most frequent concepts of a pool, and what made it.

    For example:

        regionclip concepts show pool.safetensors --top 50
    """

    pool: Annotated[Positional[Path], value("FILE")]
    """What 'regionclip concepts build' wrote."""
    top: Annotated[int, value("N")] = 20
    """Concepts to show."""

    def run(self) -> int:
        """Print the table."""
        from regionclip.concepts.pool import ConceptPool

        check_counts(self, "top")
        pool = ConceptPool.load(self.pool)
        rows = [
            (name, str(count), f"{count / pool.num_captions:.2%}" if pool.num_captions else "")
            for name, count in zip(pool.names[: self.top], pool.counts, strict=False)
        ]
        print_table(f"Concepts of {self.pool}", ("concept", "captions", "of all"), rows)
        made_with = {
            key: each for key, each in pool.made_with.items() if each not in (None, [], {})
        }
        options = ", ".join(f"{key} {each}" for key, each in made_with.items())
        for line in (
            f"{len(pool)} concepts from {pool.num_captions} captions",
            f"student: {pool.student.encoder_id}, {len(pool.student.templates)} prompts each",
            f"teacher: {pool.teacher_vocabulary.encoder_id}",
            f"made with: {options or 'nothing said'}",
        ):
            console.print(line, markup=False, soft_wrap=True)
        return 0


def names_in_list(source: str) -> tuple[str, ...] | None:
    """The names of a plain list, or ``None`` if captions are meant.

    Raises:
        ValueError: The list cannot be used.
    """
    from regionclip.cli.classes import is_file, parse_names
    from regionclip.concepts.class_names import BUILTIN_LISTS
    from regionclip.data.readers.caption_tables import is_caption_header

    if source in BUILTIN_LISTS and not Path(source).exists():
        return parse_names(source)
    if not is_file(source) or Path(source).suffix.lower() != ".txt":
        return None
    with Path(source).open(encoding="utf-8-sig", errors="replace") as file:
        is_table = is_caption_header(file.readline())
    return None if is_table else parse_names(source)


def evenly_spread(texts: Sequence[str], count: int) -> list[str]:
    """``count`` texts from the first to the last, or all if there are fewer."""
    count = min(count, len(texts))
    return [texts[index * len(texts) // count] for index in range(count)]


def print_counts(captions: "CaptionTexts", found: "ConceptCounts") -> None:
    """Print what was read, and what of it was not as it should be."""
    line = f"{found.num_captions} captions of {captions.num_images} images read"
    for number, what in (
        (captions.num_uncaptioned, "images without a caption"),
        (found.num_empty, "empty"),
        (found.num_cut, "cut at 200 words"),
        (found.num_damaged, "with bytes that are no UTF-8"),
        (found.num_without - found.num_empty, "without a concept"),
        (len(captions.unreadable), "unreadable (the first are named above)"),
        (len(captions.failures), "shards left out (named above)"),
    ):
        line += f", {number} {what}" if number else ""
    console.print(line, markup=False, soft_wrap=True)
