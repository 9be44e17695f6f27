"""The captions of a data set without its images: what concepts are counted in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .datasets import Dataset
from .readers import open_dataset
from .readers.webdataset import read_webdataset
from .shard_cache import FetchError, ShardCache, shared_cache
from .shards import are_shards, expand_braces, shards_named


@dataclass(frozen=True, slots=True)
class CaptionTexts:
    """Captions of any number of images.

    Attributes:
        texts: All of them, in the order of the images; blank ones too.
        num_images: Images that were read about.
        num_uncaptioned: Of these, those without a caption.
        failures: Why shards of a webdataset were left out, one sentence each.
        unreadable: Why the captions of images in a webdataset were left out, one sentence each;
            these images count as uncaptioned.
    """

    texts: tuple[str, ...]
    num_images: int
    num_uncaptioned: int
    failures: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


def read_captions(
    source: str | Path,
    *,
    split: str | None = None,
    cache: ShardCache | None = None,
    progress: Callable[[int], None] | None = None,
) -> CaptionTexts:
    """Read the captions of whatever :func:`~regionclip.data.readers.open_dataset` reads.

    Args:
        source: As there, or shards as :func:`~regionclip.data.shards.find_shards` takes them, also
            from object storage. Of several shards, those that cannot be read are left out, and of
            a shard the captions that cannot.
        split: Part of a folder.
        cache: Keeps what is fetched; by default in the home folder, where training without a
            ``data.cache`` looks for it.
        progress: Called with 1 after each file.

    Raises:
        ValueError: There is no such data set, it cannot be read or fetched, or it has no captions.
    """
    # none of a data set of another form
    is_in_shards = are_shards(expand_braces(str(source)))
    shards = shards_named(str(source), split) if is_in_shards else ()
    cache = cache or shared_cache()
    texts: list[str] = []
    num_images = num_uncaptioned = 0
    failures: list[str] = []
    unreadable: list[str] = []
    for file in shards or (str(source),):
        try:
            dataset = (
                read_webdataset([cache.local(file)], unreadable=unreadable.append)
                if shards
                else open_dataset(file, split=split)
            )
        except FetchError:
            raise
        except ValueError as error:
            if len(shards) < 2:
                raise
            failures.append(str(error))
            dataset = Dataset(file, (), ())
        texts += [caption for sample in dataset for caption in sample.captions]
        num_images += len(dataset)
        num_uncaptioned += sum(not any(map(str.strip, each.captions)) for each in dataset)
        if progress is not None:
            progress(1)
    if len(failures) == len(shards) > 0:
        raise ValueError(f"none of the {len(shards)} shards can be read; the first: {failures[0]}")
    if num_uncaptioned == num_images:
        raise ValueError(
            f"{source} has {num_images} images and no caption; give a COCO captions json, a csv or "
            "tsv with a column of captions, webdataset shards with texts, or a .txt of concepts"
        )
    return CaptionTexts(
        tuple(texts), num_images, num_uncaptioned, tuple(failures), tuple(unreadable)
    )
