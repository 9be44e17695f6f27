"""Class names that were encoded once and are used by their id."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from regionclip.detect import Detector
from regionclip.server.batching import MicroBatcher, NotRunningError
from regionclip.server.problems import RequestError
from regionclip.server.settings import Limits
from regionclip.vocabulary import REMEMBERED_BYTES, Vocabulary


@dataclass(frozen=True, slots=True)
class StoredVocabulary:
    """A vocabulary with its name in requests."""

    id: str
    vocabulary: Vocabulary
    num_bytes: int
    """Memory that it takes, about: vectors and letters."""


class _Shelf:
    """Vocabularies by their ids, the oldest first, weighed as they come and go.

    A request must not wait until thousands are weighed.
    """

    def __init__(self) -> None:
        self.by_id: dict[str, StoredVocabulary] = {}
        self.num_bytes = 0

    def put(self, added: StoredVocabulary) -> StoredVocabulary:
        """Add one as the newest; what has its id already is kept in its place, and returned."""
        if added.id not in self.by_id:
            self.num_bytes += added.num_bytes
        return self.by_id.setdefault(added.id, added)

    def take(self, own_id: str) -> StoredVocabulary | None:
        """Remove one, if it is there."""
        found = self.by_id.pop(own_id, None)
        if found is not None:
            self.num_bytes -= found.num_bytes
        return found


class VocabularyStore:
    """Encodes names in a thread of its own; used from one event loop.

    An id is made of names and prompts, so that the same ones have the same id in every service.
    What nobody asked to keep is remembered as long as there is room.
    """

    def __init__(self, detector: Detector, words: MicroBatcher, limits: Limits) -> None:
        """Encode with ``detector``'s text tower in the thread of ``words``."""
        self._detector = detector
        self._words = words
        self._limits = limits
        self._kept, self._remembered = _Shelf(), _Shelf()
        self._encoding: dict[str, asyncio.Future[Vocabulary]] = {}
        self._num_waiting = 0
        self._bytes_per_name = 0
        """Of vectors; not known before the first are made."""

    async def encoded(self, names: tuple[str, ...], templates: tuple[str, ...]) -> StoredVocabulary:
        """The vocabulary of some names, which is remembered for a while.

        If the caller gives up, the encoding goes on, and the next one who asks has it.

        Raises:
            RequestError: There are too many prompts, others have to be encoded first, or the model
                has no text tower.
        """
        own_id = vocabulary_id(names, templates)
        found = self._kept.by_id.get(own_id) or self._remembered.take(own_id)
        if found is None:
            found = await self._encode(own_id, names, templates)
        if own_id in self._kept.by_id:
            return self._kept.by_id[own_id]
        found = self._remembered.put(found)  # as the newest
        while len(self._remembered.by_id) > 1 and self.remembered_bytes > REMEMBERED_BYTES:
            self._remembered.take(next(iter(self._remembered.by_id)))
        return found

    async def keep(self, names: tuple[str, ...], templates: tuple[str, ...]) -> StoredVocabulary:
        """As :meth:`encoded`, until it is deleted.

        Raises:
            RequestError: As :meth:`encoded`; or there is no room for it, now or ever.
        """
        own_id = vocabulary_id(names, templates)
        self._check_room(own_id, self._num_bytes(names, templates))
        found = await self.encoded(names, templates)
        self._check_room(own_id, found.num_bytes)
        self._remembered.take(own_id)
        return self._kept.put(found)

    def get(self, own_id: str) -> StoredVocabulary:
        """A vocabulary that is kept.

        Raises:
            RequestError: There is none with that id.
        """
        found = self._kept.by_id.get(own_id)
        if found is None:
            raise RequestError(
                404, f"there is no vocabulary {own_id!r}; create it by POST /v1/vocabularies"
            )
        return found

    def delete(self, own_id: str) -> None:
        """Forget a vocabulary.

        Raises:
            RequestError: There is none with that id.
        """
        self.get(own_id)
        self._kept.take(own_id)

    def all(self) -> list[StoredVocabulary]:
        """What is kept, the oldest first."""
        return list(self._kept.by_id.values())

    @property
    def kept_bytes(self) -> int:
        """Memory of what is kept, about."""
        return self._kept.num_bytes

    @property
    def remembered_bytes(self) -> int:
        """Memory of what is remembered for a while, about."""
        return self._remembered.num_bytes

    def _check_room(self, own_id: str, num_bytes: int) -> None:
        if own_id in self._kept.by_id:
            return
        most = self._limits.max_vocabulary_bytes
        if num_bytes > most:
            raise RequestError(
                400,
                f"this vocabulary alone takes {num_bytes} bytes, and {most} are taken for all that "
                "are kept; send fewer names",
            )
        most = self._limits.max_vocabularies
        if len(self._kept.by_id) >= most:
            raise RequestError(409, f"{most} vocabularies are kept; delete one that is not needed")
        most = self._limits.max_vocabulary_bytes
        needed = self.kept_bytes + num_bytes
        if needed > most:
            raise RequestError(
                409,
                f"{len(self._kept.by_id)} vocabularies are kept, with this one they would take "
                f"{needed} bytes, and {most} are taken; delete one that is not needed",
            )

    async def _encode(
        self, own_id: str, names: tuple[str, ...], templates: tuple[str, ...]
    ) -> StoredVocabulary:
        prompts = len(names) * len(templates)
        if prompts > self._limits.max_prompts:
            raise RequestError(
                400,
                f"{len(names)} names in {len(templates)} prompts each are {prompts} texts, and "
                f"{self._limits.max_prompts} are taken; send fewer names or fewer templates",
            )
        if own_id not in self._encoding:
            self._begin(own_id, names, templates)
        try:
            found = await asyncio.shield(self._encoding[own_id])
        except ValueError as error:
            raise RequestError(400, str(error)) from error
        self._bytes_per_name = found.embeddings.nbytes // len(names)
        return StoredVocabulary(own_id, found, self._num_bytes(names, templates))

    def _num_bytes(self, names: Sequence[str], templates: Sequence[str]) -> int:
        return self._bytes_per_name * len(names) + sum(map(len, (*names, *templates)))

    def _begin(self, own_id: str, names: tuple[str, ...], templates: tuple[str, ...]) -> None:
        """Have names encoded, whoever waits for it; not more at a time than one may ask for."""
        prompts = len(names) * len(templates)
        if self._num_waiting and self._num_waiting + prompts > self._limits.max_prompts:
            raise RequestError(
                503,
                f"{self._num_waiting} other texts are being encoded; ask again in a while, or send "
                "fewer names or fewer templates",
            )
        work = self._words.submit(self._vocabulary, (names, templates), size=prompts)
        future = asyncio.wrap_future(work)
        self._encoding[own_id] = future
        self._num_waiting += prompts

        def end(_: asyncio.Future[Vocabulary]) -> None:
            del self._encoding[own_id]
            self._num_waiting -= prompts

        future.add_done_callback(end)

    def go_on(self, _: int) -> None:
        """Between two batches of texts: when the service ends, nobody waits for the rest."""
        if not self._words.is_running:
            raise NotRunningError("the service is shutting down; ask another one")
        self._words.let_shorter_go_first()

    def _vocabulary(
        self, asked: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]
    ) -> list[Vocabulary]:
        return [
            Vocabulary.from_names(
                names,
                self._detector.parts.encoder,
                templates=templates,
                progress=self.go_on,
                encoder_id=self._detector.encoder_id,
            )
            for names, templates in asked
        ]


def vocabulary_id(names: Sequence[str], templates: Sequence[str]) -> str:
    """16 hexadecimal digits of what the vocabulary is made of."""
    content = json.dumps([list(names), list(templates)]).encode()
    return hashlib.sha256(content).hexdigest()[:16]
