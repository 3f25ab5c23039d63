"""Rooms made while training: a sample is a function of (seed, number), nothing is stored.

A training stream draws its rooms from the training split's seeds, an evaluation stream from another
split, so no room of one is ever seen in the other.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from data.rooms import SPLITS, sample_batch
from data.sample_place import SamplePlace
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
        process_count: int = 1,
    ):
        if split not in SPLITS:
            raise ValueError(f"data.split must be one of {sorted(SPLITS)}, got {split!r}")
        self._size = (num_targets, height, width)
        self._num_inputs, self._seeds, self._baseline = num_inputs, SPLITS[split], baseline
        self._seed = seed
        self._place = SamplePlace(batch_size, process_index, process_count)

    def __iter__(self) -> RoomsSource:
        return self

    def __next__(self) -> tuple[Batch, dict[str, Any]]:
        index, numbers = self._place.advance()
        num_targets, height, width = self._size
        # The number of views is the same in all processes: they run one program together.
        shared = np.random.default_rng((self._seed, index))
        num_inputs = self._num_inputs[shared.integers(len(self._num_inputs))]
        baseline = float(shared.uniform(*self._baseline))
        rngs = [np.random.default_rng((self._seed, number, 1)) for number in numbers]
        seeds = np.array([rng.integers(*self._seeds, dtype=np.uint32) for rng in rngs])
        batch = sample_batch(seeds, num_inputs, num_targets, height, width, baseline=baseline)
        ids = [f"rooms/{seed}" for seed in seeds]
        return jax.device_get(batch), {"ids": ids, "num_inputs": num_inputs, "baseline": baseline}

    def get_state(self) -> dict[str, int]:
        """Position before the next batch, the same in every process."""
        return self._place.get_state()

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to a position, whatever number of processes and batch size it comes from."""
        self._place.set_state(state)
