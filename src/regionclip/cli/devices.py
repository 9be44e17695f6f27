"""Options about the machine, checked before a model is read."""

import re

from regionclip.cli.console import UsageError

UNITS = {
    "": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def checked_device(device: str) -> str:
    """The device to compute on.

    Args:
        device: ``auto`` takes a CUDA device if there is one and the CPU otherwise; else a name as
            torch knows it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        UsageError: There is no such device.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device)
    except RuntimeError as error:
        raise UsageError(
            f"--device {device}: is no device; expected auto, cpu, cuda, cuda:1, ... or mps"
        ) from error
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind.type == "cuda" and (kind.index or 0) >= count:
        found = "torch finds no CUDA device here" if count == 0 else f"there are {count} of them"
        raise UsageError(f"--device {device}: {found}; use --device {'cuda:0' if count else 'cpu'}")
    if kind.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f"--device {device}: torch finds no such device; use --device cpu")
    return device


def parse_bytes(size: str) -> int:
    """Bytes of a size such as ``2GiB``, ``500 MB`` or ``1000000``.

    Raises:
        UsageError: It is no such size, or not positive.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", size.strip())
    if match is None or match[2].lower() not in UNITS or float(match[1]) == 0:
        raise UsageError(f"{size!r} is no size of memory; write it as 2GiB, 500MB or 1000000")
    return int(float(match[1]) * UNITS[match[2].lower()])
