"""Rooms made while training: a batch is a function of (seed, index, process), nothing is stored.

A training stream draws its rooms from the training split's seeds, an evaluation stream from another
split, so no room of one is ever seen in the other.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from data.rooms import SPLITS, sample_batch
from mvdust3r_jax.types import Batch


class RoomsSource:
    """Endless batches ``[batch_size, S, height, width]``; the number of inputs is drawn per batch.

    baseline: range from which each batch draws how far apart its views are (1: a few steps).
    info: ``ids`` (``rooms/<seed>``, enough to make the room again), ``num_inputs``, ``baseline``.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        num_inputs: tuple[int, ...],
        num_targets: int,
        height: int,
        width: int,
        seed: int,
        split: str = "train",
        baseline: tuple[float, float] = (1.0, 1.0),
        process_index: int = 0,
    ):
        if split not in SPLITS:
            raise ValueError(f"data.split must be one of {sorted(SPLITS)}, got {split!r}")
        self._size = (batch_size, num_targets, height, width)
        self._num_inputs, self._seeds, self._baseline = num_inputs, SPLITS[split], baseline
        self._seed, self._process, self._next = seed, process_index, 0

    def __iter__(self) -> RoomsSource:
        return self

    def __next__(self) -> tuple[Batch, dict[str, Any]]:
        index = self._next
        self._next += 1
        batch_size, num_targets, height, width = self._size
        # The number of views is the same in all processes: they run one program together.
        shared = np.random.default_rng((self._seed, index))
        num_inputs = self._num_inputs[shared.integers(len(self._num_inputs))]
        baseline = float(shared.uniform(*self._baseline))
        own = np.random.default_rng((self._seed, index, self._process))
        seeds = own.integers(*self._seeds, size=batch_size, dtype=np.uint32)
        batch = sample_batch(seeds, num_inputs, num_targets, height, width, baseline=baseline)
        ids = [f"rooms/{seed}" for seed in seeds]
        return jax.device_get(batch), {"ids": ids, "num_inputs": num_inputs, "baseline": baseline}

    def get_state(self) -> dict[str, int]:
        """Position before the next batch."""
        return {"next": self._next}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to a position that ``get_state`` gave."""
        self._next = int(state["next"])
