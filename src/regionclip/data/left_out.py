"""What a run came upon and could not use, or not as a whole: counted, kept, added up, and told."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from regionclip.structures import LeftOut

from .captions import DAMAGED_SHARD

NAMED = 5
"""Of each reason to leave something out, so many are named in the log; all are counted."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class LeftOutCounts:
    """What a process came upon since the run began, also before it was interrupted.

    Attributes:
        by_reason: How often something was left out, but for damaged shards.
        shards: One sentence per damaged shard; every process and every epoch finds the same.
        num_cut: Captions that the text tower reads the beginning of.
    """

    by_reason: Counter[str] = field(default_factory=Counter)
    shards: set[str] = field(default_factory=set)
    num_cut: int = 0

    def add(self, each: LeftOut) -> None:
        """Count it, and name the first few of its kind in the log."""
        if each.reason == DAMAGED_SHARD:
            if each.message not in self.shards:
                self.shards.add(each.message)
                _log.warning("%s", each.message)
            return
        self.by_reason[each.reason] += 1
        times = self.by_reason[each.reason]
        if times <= NAMED:
            end = " (more of this kind are only counted)" if times == NAMED else ""
            _log.warning("%s%s", each.message, end)

    def state(self) -> dict[str, Any]:
        """Plain data, for a checkpoint or another process."""
        return {
            "by_reason": dict(self.by_reason),
            "shards": sorted(self.shards),
            "num_cut": self.num_cut,
        }

    def restore(self, states: Iterable[Mapping[str, Any]]) -> None:
        """Count nothing but what several :meth:`state` counted together."""
        self.by_reason, self.shards, self.num_cut = Counter(), set(), 0
        for each in states:
            self.by_reason.update(each["by_reason"])
            self.shards.update(each["shards"])
            self.num_cut += each["num_cut"]

    def __str__(self) -> str:
        """Such as ``left out: 2 no caption; cut: 1 caption``; empty if there was nothing."""
        counts = self.by_reason + Counter({DAMAGED_SHARD: len(self.shards)})
        reasons = ", ".join(f"{times} {reason}" for reason, times in counts.most_common())
        parts = [f"left out: {reasons}"] if reasons else []
        if self.num_cut:
            noun = "caption" if self.num_cut == 1 else "captions"
            parts.append(f"cut to what the text tower reads: {self.num_cut} {noun}")
        return "; ".join(parts)
