"""What a service takes, and how long it waits for company."""

import math
import re
from dataclasses import dataclass, field

HOST = re.compile(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(:[1-9][0-9]{0,4})?")
"""What stands between ``https://`` and the path of an address, and can be compared with one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What is refused before it costs anything."""

    max_body_bytes: int = 20 * 2**20
    """Of a request, image and fields together."""
    max_json_bytes: int = 4 * 2**20
    """Of a request without an image: JSON takes many times its size while it is read."""
    max_pixels: int = 50_000_000
    """Of an image; larger ones are refused by their header, not decoded."""
    max_boxes: int = 1000
    """Regions of one request."""
    max_names: int = 2000
    """Class names, or texts, of one request."""
    max_prompts: int = 200_000
    """Class names times prompt templates of one vocabulary, and of all that wait to be encoded."""
    max_text_length: int = 500
    """Characters of a name, a prompt template or a text."""
    max_vocabularies: int = 1000
    """That are kept until somebody deletes them."""
    max_vocabulary_bytes: int = 512 * 2**20
    """Of all that are kept, vectors and names together."""
    max_in_flight: int = 128
    """Requests taken and not answered yet; more are sent away with 429."""
    timeout_seconds: float = 60.0
    """From the end of a request's headers to its answer."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive, got {value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Batching:
    """Which requests are computed together: those of one size, with the same names and options."""

    max_size: int = 8
    """Images at once; 1 computes each alone."""
    max_delay_seconds: float = 0.003
    """How long an image waits for company while nothing else is to be done."""

    def __post_init__(self) -> None:
        if self.max_size < 1:
            raise ValueError(f"max_size must be at least 1, got {self.max_size}")
        if not (math.isfinite(self.max_delay_seconds) and self.max_delay_seconds >= 0):
            raise ValueError(f"max_delay_seconds must be at least 0, got {self.max_delay_seconds}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceSettings:
    """All that :func:`~regionclip.server.app.create_app` may be told beside the model."""

    model_name: str = "model"
    """How answers call the model."""
    classes: tuple[str, ...] | None = None
    """Names for requests that give none; ``None`` takes those that the model carries."""
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    """One of them must come with every request under ``/v1``; none lets everybody in."""
    url_hosts: tuple[str, ...] = ()
    """Hosts, with ``:port`` where it is not the usual one, that images are fetched from; nothing is
    fetched from any other. Each by its whole name; an IPv6 address in brackets, as in a URL."""
    max_decoding: int | None = None
    """Images that are decoded at a time; ``None``: one for each core that the process may use."""
    limits: Limits = field(default_factory=Limits)
    batching: Batching = field(default_factory=Batching)

    def __post_init__(self) -> None:
        if self.max_decoding is not None and self.max_decoding < 1:
            raise ValueError(f"max_decoding must be at least 1, got {self.max_decoding}")
        for host in self.url_hosts:
            if HOST.fullmatch(host) is None:
                raise ValueError(
                    f"nothing can be fetched from {host!r}; allow hosts as 'example.com' or "
                    "'example.com:8443', without https:// and path, and each by its own name"
                )
        count, most = len(self.classes or ()), self.limits.max_names
        if count > most:
            raise ValueError(
                f"there are {count} classes, and max_names is {most}; raise it, or name fewer"
            )
        longest = max(self.classes or ("",), key=len)
        if len(longest) > self.limits.max_text_length:
            raise ValueError(
                f"the class {longest[:40]!r}... has {len(longest)} characters, and "
                f"{self.limits.max_text_length} are taken; shorten it"
            )
