"""Which trajectory a training sample shows: everything follows from the seed and its number.

Within a stream (one data set, one entry of ``num_inputs``) every trajectory comes once before any
comes twice; several data sets are mixed by their weights. A position is that of the whole run,
whatever the number of processes and the batch size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import grain
import numpy as np

from data.stored.config import DataConfig
from data.stored.reader import TrajectorySet

# More samples than any run sees; Grain wants a finite length.
_ENDLESS = 2**48


def slot_of_step(seed: int, step: int, slots: int) -> int:
    """Which entry of ``num_inputs`` a batch has: blocks of all entries, each in a random order."""
    block = np.random.default_rng([seed, step // slots]).permutation(slots)
    return int(block[step % slots])


@dataclasses.dataclass(frozen=True)
class Ticket:
    """One sample to load. number: unique over steps, processes and places in the batch."""

    source: int
    trajectory: int
    num_inputs: int
    number: int


class Schedule:
    """Sample number of this process -> ticket; the only place that knows the order."""

    def __init__(
        self,
        cfg: DataConfig,
        sets: Sequence[TrajectorySet],
        *,
        seed: int,
        batch_size: int,
        process_index: int,
        process_count: int,
        start: dict[str, Any] | None = None,
    ):
        self._slots, self._seed, self._batch = cfg.num_inputs, seed, batch_size
        self._first, self._all = process_index * batch_size, process_count * batch_size
        self._start = start or {"next": 0, "sample": 0, "slots": [0] * len(self._slots)}
        weights = [weight for _, weight in cfg.folders]
        self._streams = [
            _mixture(sets, weights, cfg, num_inputs, seed + 1000 * slot, self._all)
            for slot, num_inputs in enumerate(self._slots)
        ]

    def __len__(self) -> int:
        return _ENDLESS

    def _turns(self, slot: int, step: int) -> int:
        """How many batches before this step have this slot: it occurs once in every block."""
        block = step // len(self._slots)
        before = range(block * len(self._slots), step)
        return block + sum(slot_of_step(self._seed, s, len(self._slots)) == slot for s in before)

    def position(self, batches: int) -> dict[str, Any]:
        """Of the whole run, ``batches`` after the start: batches, samples, samples of each slot."""
        start, step = self._start, self._start["next"] + batches
        slots = [
            seen + self._all * (self._turns(slot, step) - self._turns(slot, start["next"]))
            for slot, seen in enumerate(start["slots"])
        ]
        return {"next": step, "sample": start["sample"] + batches * self._all, "slots": slots}

    def __getitem__(self, index: int) -> Ticket:
        batches, place = divmod(int(index), self._batch)
        here = self.position(batches)
        slot = slot_of_step(self._seed, here["next"], len(self._slots))
        source, trajectory = self._streams[slot][here["slots"][slot] + self._first + place]
        number = here["sample"] + self._first + place
        return Ticket(source, int(trajectory), self._slots[slot], number)


def _mixture(
    sets: Sequence[TrajectorySet],
    weights: Sequence[float],
    cfg: DataConfig,
    num_inputs: int,
    seed: int,
    batch: int,
) -> grain.MapDataset:
    """Endless (source, trajectory) pairs in the given proportions, each source shuffled.

    Raises:
      ValueError: a source without such trajectories, or fewer in all than a batch of training.
    """
    streams, kept, total = [], [], 0
    for number, (trajectories, weight) in enumerate(zip(sets, weights, strict=True)):
        eligible = trajectories.eligible(num_inputs, cfg.num_targets)
        if not len(eligible):
            raise ValueError(
                f"{trajectories.root} ({trajectories.split}): none of {len(trajectories)} "
                f"trajectories has {num_inputs} inputs that cover {cfg.num_targets} targets"
            )
        total += len(eligible)
        pairs = [(number, trajectory) for trajectory in eligible]
        shuffled = grain.MapDataset.source(pairs).seed(seed + number).shuffle()
        streams.append(shuffled.repeat(None))
        kept.append(weight)
    if cfg.split == "train" and total < batch:
        raise ValueError(
            f"data.mixture has {total} trajectories of {num_inputs} inputs and {cfg.num_targets} "
            f"targets: fewer than a batch of {batch}"
        )
    return grain.MapDataset.mix(streams, kept)
