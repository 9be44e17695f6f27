"""Averages of weights: over the steps of a run, and between a run's start and its end."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """An exponential moving average of a module's trainable parameters."""

    def __init__(self, module: nn.Module, decay: float, *, twice: Sequence[str] = ()) -> None:
        """Begin with the parameters as they are.

        Args:
            module: Its parameters.
            decay: What of an average stays after a step.
            twice: Beginnings of the names of parameters that are taken in twice per step, so that
                only the square of ``decay`` stays.
        """
        trained = {name: own for name, own in module.named_parameters() if own.requires_grad}
        self._parameters = list(trained.values())
        self._averages = [each.detach().clone() for each in self._parameters]
        self._twice = [row for row, name in enumerate(trained) if name.startswith(tuple(twice))]
        self._update = get_ema_multi_avg_fn(decay)

    def update(self) -> None:
        """Take in the parameters after a step."""
        self._take_in(range(len(self._parameters)))
        if self._twice:
            self._take_in(self._twice)

    def _take_in(self, rows: Sequence[int]) -> None:
        own = [self._parameters[row].detach() for row in rows]
        self._update([self._averages[row] for row in rows], own, 0)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Lend the averages to the module while the block runs."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def keep(self) -> None:
        """Leave the averages in the module."""
        self._swap()

    def state(self) -> list[Tensor]:
        """What :meth:`load` takes."""
        return self._averages

    def load(self, averages: list[Tensor]) -> None:
        """Go on with averages that :meth:`state` gave."""
        for own, other in zip(self._averages, averages, strict=True):
            own.copy_(other)

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self._parameters, self._averages, strict=True):
            own = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(own)


class StartWeights:
    """A module's weights before training, to be mixed with what becomes of them.

    Source:
        Wortsman et al., Robust fine-tuning of zero-shot models (WiSE-FT, arXiv:2109.01903), eq. 1.
    """

    def __init__(self, module: nn.Module) -> None:
        """Copy the trainable parameters; the others stay as they are anyway."""
        self._trained = [each for each in module.parameters() if each.requires_grad]
        self._before = [each.detach().clone() for each in self._trained]

    @contextmanager
    def mixed_in(self, *, share_of_end: float) -> Iterator[None]:
        """Lend the module weights between those then (0) and now (1) while the block runs.

        Raises:
            ValueError: ``share_of_end`` is not in [0, 1].
        """
        _check_share(share_of_end)
        now = [each.detach().clone() for each in self._trained]
        pairs = zip(self._before, now, strict=True)
        self._take([torch.lerp(each.to(own), own, share_of_end) for each, own in pairs])
        try:
            yield
        finally:
            self._take(now)

    @torch.no_grad()
    def _take(self, weights: Sequence[Tensor]) -> None:
        for parameter, own in zip(self._trained, weights, strict=True):
            parameter.copy_(own)


def _check_share(share_of_end: float) -> None:
    if not 0 <= share_of_end <= 1:
        raise ValueError(f"share_of_end must be in [0, 1], got {share_of_end}")


def interpolated_weights(
    start: Mapping[str, Tensor], end: Mapping[str, Tensor], *, share_of_end: float
) -> dict[str, Tensor]:
    """Weights between those before and after fine-tuning, which often keep the strengths of both.

    Args:
        start: Before; tensors that it lacks, or has in another shape, are taken from ``end``.
        end: After.
        share_of_end: 0 gives ``start``, 1 gives ``end``.

    Raises:
        ValueError: ``share_of_end`` is not in [0, 1].

    Source:
        Wortsman et al., Robust fine-tuning of zero-shot models (WiSE-FT, arXiv:2109.01903), eq. 1.
    """
    _check_share(share_of_end)
    mixed = {}
    for name, after in end.items():
        before = start.get(name)
        if before is None or before.shape != after.shape or not after.is_floating_point():
            mixed[name] = after
        else:
            mixed[name] = torch.lerp(before.to(after), after, share_of_end)
    return mixed
