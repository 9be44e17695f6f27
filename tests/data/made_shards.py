"""Webdataset shards made by hand."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from regionclip.data.caption_shards import CaptionShards
from regionclip.data.shard_cache import ShardCache


def noise(seed: int, *, width: int = 30, height: int = 20) -> bytes:
    """A png of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


def tar(members: Mapping[str, bytes]) -> bytes:
    """An archive of these files."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, each in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(each)
            archive.addfile(info, io.BytesIO(each))
    return content.getvalue()


def members(keys: Sequence[str]) -> dict[str, bytes]:
    """An image and two captions per key."""
    made = {}
    for key in keys:
        made[f"{key}.png"] = noise(sum(map(ord, key)))
        made[f"{key}.json"] = json.dumps({"captions": [f"a {key}", f"the {key}"]}).encode()
    return made


def write_shards(folder: Path, sizes: Sequence[int]) -> list[str]:
    """Shards ``0.tar``, ``1.tar``, ... of so many samples: the first has ``a0``, ``a1``, ..."""
    paths = []
    for shard, size in enumerate(sizes):
        path = folder / f"{shard}.tar"
        path.write_bytes(tar(members([f"{'abcdefgh'[shard]}{row}" for row in range(size)])))
        paths.append(str(path))
    return paths


def opened(shards: Sequence[str], folder: Path, *, max_bytes: int = 1 << 30) -> CaptionShards:
    """Shards that wait for nothing."""
    return CaptionShards(shards, ShardCache(folder, max_bytes, waits=(0.0,)))
