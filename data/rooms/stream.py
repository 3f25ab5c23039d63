"""Rooms made while training: a sample is a function of (seed, number), nothing is stored.

A training stream draws its rooms from the training split's seeds, an evaluation stream from another
split, so no room of one is ever seen in the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data.photographic import photograph
from data.recolor import recolored
from data.rooms import SPLITS, options_from, sample_batch
from data.sample_place import SamplePlace
from mvdust3r_jax.types import Batch, images_01_from, images_from_01


class RoomsSource:
    """Endless batches ``[batch_size, S, height, width]``; the number of inputs is drawn per batch.

    images_per_step: input images of a batch, 0 = ``batch_size`` samples of any number of views.
    baseline: range from which each batch draws how far apart its views are (1: a few steps).
    reuse: how often a batch is handed out, each time with another view as the reference.
    recolor: share of the samples whose surfaces get other colors, drawn anew each time.
    photographic: strength of a camera's faults in the input views, drawn anew each time.
    options: fields of `Options` that differ from those of most rooms.
    info: ``ids`` (``rooms/<seed>``, enough to make the room again), ``num_inputs``, ``baseline``.
    """

    epoch_samples = 0

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
        images_per_step: int = 0,
        reuse: int = 1,
        recolor: float = 0.0,
        photographic: float = 0.0,
        options: Mapping[str, Any] | None = None,
        process_index: int = 0,
        process_count: int = 1,
    ):
        if split not in SPLITS:
            raise ValueError(f"data.split must be one of {sorted(SPLITS)}, got {split!r}")
        if not 1 <= reuse <= min(num_inputs):
            raise ValueError(
                f"data.reuse must lie in 1..{min(num_inputs)}, the fewest input views, got {reuse}"
            )
        if not 0 <= recolor <= 1:
            raise ValueError(f"data.recolor must be a share in [0, 1], got {recolor}")
        if not 0 <= photographic < math.inf:
            raise ValueError(f"data.photographic must be at least 0, got {photographic}")
        self._size = (num_targets, height, width)
        self._batch_size, self._images_per_step = batch_size, images_per_step
        self._num_inputs, self._seeds, self._baseline = num_inputs, SPLITS[split], baseline
        self._recolor, self._photographic = recolor, photographic
        self._reuse, self._seed = reuse, seed
        self._options = options_from(options)
        self._place = SamplePlace(batch_size, process_index, process_count)
        # Of the rooms in use: the position before them, how often they were used, themselves.
        self._before, self._turn = self._place.get_state(), 0
        self._rooms: tuple[Batch, np.ndarray, dict[str, Any]] | None = None

    def __iter__(self) -> RoomsSource:
        return self

    def __next__(self) -> tuple[Batch, dict[str, Any]]:
        if self._rooms is None or self._turn == self._reuse:
            self._before = self._place.get_state()
            self._rooms, self._turn = self._make(), 0
        batch, numbers, info = self._rooms
        turn, inputs = self._turn, info["num_inputs"]
        self._turn += 1
        if turn:
            batch = _rolled(batch, inputs, turn * inputs // self._reuse)
        key = jax.random.fold_in(jax.random.key(self._seed), turn)
        if self._recolor:
            batch = _recolored(batch, jax.random.fold_in(key, 1), numbers, self._recolor)
        if self._photographic:
            batch = _photographed(batch, key, numbers, self._photographic, inputs)
        return jax.device_get(batch), info

    def _make(self) -> tuple[Batch, np.ndarray, dict[str, Any]]:
        """The rooms of the next batch, and the numbers of its samples in the whole run."""
        num_targets, height, width = self._size
        # The number of views is the same in all processes: they run one program together.
        shared = np.random.default_rng((self._seed, self._place.index))
        num_inputs = int(self._num_inputs[shared.integers(len(self._num_inputs))])
        baseline = float(shared.uniform(*self._baseline))
        _, numbers = self._place.advance(self._images_per_step // num_inputs or None)
        rngs = [np.random.default_rng((self._seed, number, 1)) for number in numbers]
        seeds = np.array([rng.integers(*self._seeds, dtype=np.uint32) for rng in rngs])
        size = num_inputs, num_targets, height, width
        batch = sample_batch(seeds, *size, baseline=baseline, options=self._options)
        ids = [f"rooms/{seed}" for seed in seeds]
        info = {"ids": ids, "num_inputs": num_inputs, "baseline": baseline}
        return batch, np.array(numbers, np.uint32), info

    def get_state(self) -> dict[str, int]:
        """Position before the next batch, the same in every process."""
        if self._rooms is None or self._turn == self._reuse:
            return self._place.get_state() | {"turn": 0}
        return self._before | {"turn": self._turn}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to a position, whatever number of processes and batch size it comes from."""
        self._place.set_state(state)
        self._rooms, turn = None, int(state.get("turn", 0))
        if turn:
            self._before = self._place.get_state()
            # Rooms that were to be used more often before are used up.
            self._rooms, self._turn = self._make(), min(turn, self._reuse)


@partial(jax.jit, static_argnames=("num_inputs", "shift"))
def _rolled(batch: Batch, num_inputs: int, shift: int) -> Batch:
    """The same samples with input view ``shift`` first; render-only views stay."""

    def roll(x: jax.Array) -> jax.Array:
        inputs = jnp.roll(x[:, :num_inputs], -shift, axis=1)
        return jnp.concatenate([inputs, x[:, num_inputs:]], axis=1)

    return jax.tree.map(roll, batch)


@jax.jit
def _recolored(batch: Batch, key: jax.Array, numbers: jax.Array, share: jax.Array) -> Batch:
    """All views with other colors; each sample's by its own number."""

    def one(number: jax.Array, images: jax.Array) -> jax.Array:
        return recolored(jax.random.fold_in(key, number), images[None], share)[0]

    images_01 = jax.vmap(one)(numbers, images_01_from(batch.images))
    return batch.replace(images=images_from_01(images_01))


@partial(jax.jit, static_argnames=("num_inputs",))
def _photographed(
    batch: Batch, key: jax.Array, numbers: jax.Array, strength: float | jax.Array, num_inputs: int
) -> Batch:
    """Input views as a cheap camera takes them; each sample's by its own number."""

    def one(number: jax.Array, images: jax.Array) -> jax.Array:
        return photograph(jax.random.fold_in(key, number), images[None], strength)[0]

    images_01 = jax.vmap(one)(numbers, images_01_from(batch.images[:, :num_inputs]))
    images = images_from_01(images_01)
    return batch.replace(images=jnp.concatenate([images, batch.images[:, num_inputs:]], axis=1))
