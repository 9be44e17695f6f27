"""What a command has done already: nothing is done twice, and nothing is lost when it stops."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionclip.cli.console import UsageError

if TYPE_CHECKING:
    from regionclip.data.sources import NamedSource


class Journal:
    """A file of JSON lines that is only ever appended to: the settings, then one line per image.

    A line is written when an image is finished, so a command that is stopped, whatever stops it,
    loses at most what it was computing; a line that was cut off is dropped. An image counts as
    done while its file has the size and modification time of then.

    Attributes:
        path: The file.
        num_found: Images that it listed when it was opened.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Open a journal, or begin one.

        Args:
            path: Its folder is made.
            settings: All that results depend on, as plain data. Of what
                :func:`~regionclip.cli.contents.known_by` notes, the content alone counts.
            resume: Go on with what is there; else it is deleted.

        Raises:
            UsageError: What is there was made with other settings, or is no journal.
        """
        self.path = path
        self._lines: dict[str, tuple[list[int], int]] = {}
        if not resume:
            path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            self._read(json.loads(json.dumps(settings)))
        except BaseException:
            self._file.close()
            raise
        self.num_found = len(self._lines)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return name in self._lines

    def __len__(self) -> int:
        return len(self._lines)

    def is_done(self, source: "NamedSource") -> bool:
        """Whether the image is listed and its file has not changed since."""
        return source.name in self._lines and self._lines[source.name][0] == _stamp(source)

    def write(self, source: "NamedSource", content: Mapping[str, Any]) -> None:
        """List an image as done.

        Args:
            source: The image.
            content: What to remember of it, as plain data.
        """
        stamp = _stamp(source)
        entry = {"image": source.name, "file": str(source.file), "stamp": stamp, **content}
        self._file.seek(0, 2)
        self._lines[source.name] = (stamp, self._file.tell())
        self._file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        self._file.flush()

    def entries(self) -> Iterator[dict[str, Any]]:
        """What is remembered, one entry per image, in the order in which they were finished."""
        starts = sorted(start for _, start in self._lines.values())
        with self.path.open("rb") as file:
            for start in starts:
                file.seek(start)
                yield json.loads(file.readline())

    def _read(self, settings: dict[str, Any]) -> None:
        self._file.seek(0)
        start = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break
            entry = self._parsed(line, number)
            if number == 1:
                self._check_settings(entry.get("settings"), settings)
            else:
                self._lines[entry["image"]] = (entry["stamp"], start)
            start += len(line)
        self._file.truncate(start)
        if start == 0:
            self._file.write(
                json.dumps({"settings": settings}, ensure_ascii=False).encode() + b"\n"
            )
            self._file.flush()

    def _parsed(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        wanted = {"settings"} if number == 1 else {"image", "stamp"}
        if not isinstance(entry, dict) or not wanted <= entry.keys():
            raise UsageError(
                f"{self.path} is damaged in line {number}, or of another program; use another "
                "--output, or --no-resume to start over"
            )
        return entry

    def _check_settings(self, then: Any, now: dict[str, Any]) -> None:
        then = then if isinstance(then, dict) else {}
        for name in [*now, *then]:
            if _compared(then.get(name)) != _compared(now.get(name)):
                raise UsageError(
                    f"{self.path} was made with other settings: {name} was "
                    f"{_shown(then.get(name))}, now {_shown(now.get(name))}; use another "
                    "--output, or --no-resume to start over"
                )


def _stamp(source: "NamedSource") -> list[int]:
    """Size in bytes and time of modification in nanoseconds."""
    state = source.file.stat()
    return [state.st_size, state.st_mtime_ns]


def _compared(value: Any) -> Any:
    """Of a file, what it holds: its name may be another."""
    return value["content"] if isinstance(value, dict) and "content" in value else value


def _shown(value: Any, max_length: int = 80) -> str:
    if isinstance(value, dict) and "content" in value:
        return f"{_shown(value['name'])} (content {value['content'][:8]})"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= max_length else f"{text[: max_length - 3]}..."
