"""The open-vocabulary splits that papers report on, made from the official json files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from regionclip.concepts.class_names import builtin_ids, builtin_names
from regionclip.data.readers.coco import lvis_words

from .restricting import Content, with_categories

Part = Literal["base", "novel", "all"]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A published split.

    Attributes:
        title: What it is.
        base: Built-in list of the classes with boxes to train on.
        novel: Those without.
        suffixes: What files of the parts end with.
        prefix: Taken from the official file's name, and what stands there instead.
        words_of: How names in the official file become those of the lists.
        source: Where the split is from.
    """

    title: str
    base: str
    novel: str
    suffixes: Mapping[Part, str]
    prefix: tuple[str, str]
    words_of: Callable[[str], str]
    source: str

    def file_name(self, official: str, part: Part) -> str:
        """The name of a part's file, from that of the official one without ``.json``."""
        theirs, ours = self.prefix
        return f"{ours}{official.removeprefix(theirs)}_{self.suffixes[part]}.json"

    def splits(self, part: Part) -> dict[int, str]:
        """``base`` or ``novel`` by id of the part's categories."""
        base = dict.fromkeys(builtin_ids(self.base), "base")
        novel = dict.fromkeys(builtin_ids(self.novel), "novel")
        return {"base": base, "novel": novel, "all": base | novel}[part]


BENCHMARKS: Mapping[str, Benchmark] = {
    "ov-coco": Benchmark(
        title="COCO, 48 base and 17 novel classes",
        base="coco48",
        novel="coco17",
        suffixes={"base": "b", "novel": "t", "all": "all"},
        prefix=("instances_", "ovd_ins_"),
        words_of=str,
        source="OVR-CNN (arXiv:2011.10678), which names the files so; RegionCLIP trains on b and "
        "tests on all",
    ),
    "ov-lvis": Benchmark(
        title="LVIS, 866 base (frequent and common) and 337 novel (rare) classes",
        base="lvis866",
        novel="lvis337",
        suffixes={"base": "base", "novel": "novel", "all": "all"},
        prefix=("", ""),
        words_of=lvis_words,
        source="ViLD (arXiv:2104.13921)",
    ),
}


def benchmark_parts(content: Content, name: str) -> dict[Part, dict[str, Any]]:
    """Make the three files of a benchmark.

    Annotations of other categories, and images that are left without any, are left out, as in the
    files that papers use: figures compare with theirs, while false detections in these images are
    not counted. Category ids stay the official ones; every category says ``split``.

    Args:
        content: The official dictionary of COCO's or LVIS's instances.
        name: Of :data:`BENCHMARKS`.

    Raises:
        ValueError: Categories of the benchmark are not listed, or have other names or frequencies.
    """
    benchmark = BENCHMARKS[name]
    _check_official(content, benchmark)
    parts: dict[Part, dict[str, Any]] = {}
    for part in benchmark.suffixes:
        splits = benchmark.splits(part)
        kept = {
            each["image_id"] for each in content["annotations"] if each["category_id"] in splits
        }
        images = [each for each in content["images"] if each["id"] in kept]
        note = (
            f"{benchmark.title}: {part} ({len(splits)}). Annotations of other categories, and "
            f"{len(content['images']) - len(images)} of {len(content['images'])} images that have "
            f"none of these, are left out, as in the files that papers use. Source: "
            f"{benchmark.source}."
        )
        parts[part] = with_categories(content, splits, images=images, note=note)
    return parts


def _check_official(content: Content, benchmark: Benchmark) -> None:
    listed = {each["id"]: each for each in content["categories"]}
    for name_list, is_rare in ((benchmark.base, False), (benchmark.novel, True)):
        ids, names = builtin_ids(name_list), builtin_names(name_list)
        for category_id, name in zip(ids, names, strict=True):
            entry = listed.get(category_id)
            found = None if entry is None else benchmark.words_of(str(entry["name"]))
            if entry is None or found != name:
                raise ValueError(
                    f"this is no official file of {benchmark.title}: its category {category_id} is "
                    f"{found or 'not listed'}, expected {name}"
                )
            if (entry.get("frequency", "r" if is_rare else "f") == "r") != is_rare:
                raise ValueError(
                    f"this is no official file of {benchmark.title}: the frequency of {name} is "
                    f"{entry['frequency']!r}"
                )
