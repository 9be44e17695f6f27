"""Files known by what they hold: results go on with the same weights, whatever they are called."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def known_by(name: str, file: Path | None) -> dict[str, str] | str:
    """How a journal notes what results were made with.

    Args:
        name: As the user gave it.
        file: What it stands for; ``None`` if the name says all, as ``grid`` does.

    Returns:
        The name, which is shown, and the content, which is compared; or the name alone.
    """
    return name if file is None else {"name": name, "content": digest_of(file)}


def digest_of(file: Path) -> str:
    """BLAKE2b of a whole file, 32 hexadecimal digits; of a folder, of its list of files."""
    if file.is_dir():
        listing = [
            f"{each.name} {each.stat().st_size} {each.stat().st_mtime_ns}"
            for each in sorted(file.iterdir())
        ]
        return _blake2b("\n".join(listing).encode()).hexdigest()
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, _blake2b).hexdigest()


def digest_of_rows(rows: "Tensor") -> str:
    """BLAKE2b of numbers and their shape: a file written anew may have other bytes around them."""
    digest = _blake2b(str(tuple(rows.shape)).encode())
    digest.update(rows.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _blake2b(start: bytes = b"") -> "hashlib.blake2b":
    return hashlib.blake2b(start, digest_size=16)
