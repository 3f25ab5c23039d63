"""Rooms made while training: a batch is a function of (seed, index, process), nothing is stored.

A training stream draws its rooms from the training split's seeds, an evaluation stream from another
split, so no room of one is ever seen in the other.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data.photographic import photograph
from data.rooms import SPLITS, sample_batch
from mvdust3r_jax.types import Batch


class RoomsSource:
    """Endless batches ``[batch_size, S, height, width]``; the number of inputs is drawn per batch.

    images_per_step: input images of a batch, 0 = ``batch_size`` samples of any number of views.
    baseline: range from which each batch draws how far apart its views are (1: a few steps).
    reuse: how often a batch is handed out, each time with another view as the reference.
    photographic: strength of a camera's faults in the input views, drawn anew each time.
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
        images_per_step: int = 0,
        reuse: int = 1,
        photographic: float = 0.0,
        process_index: int = 0,
    ):
        if split not in SPLITS:
            raise ValueError(f"data.split must be one of {sorted(SPLITS)}, got {split!r}")
        if not 1 <= reuse <= min(num_inputs):
            raise ValueError(
                f"data.reuse must lie in 1..{min(num_inputs)}, the fewest input views, got {reuse}"
            )
        self._size = (num_targets, height, width)
        self._batch_size, self._images_per_step = batch_size, images_per_step
        self._num_inputs, self._seeds, self._baseline = num_inputs, SPLITS[split], baseline
        self._reuse, self._photographic = reuse, photographic
        self._rooms: tuple[int, Batch, dict[str, Any]] | None = None  # the latest, with their index
        self._seed, self._process, self._next = seed, process_index, 0

    def __iter__(self) -> RoomsSource:
        return self

    def __next__(self) -> tuple[Batch, dict[str, Any]]:
        index, turn = divmod(self._next, self._reuse)
        if self._rooms is None or self._rooms[0] != index:
            self._rooms = (index, *self._make(index))
        self._next += 1
        _, batch, info = self._rooms
        inputs = info["num_inputs"]
        if turn:
            batch = _rolled(batch, inputs, turn * inputs // self._reuse)
        if self._photographic:
            rng = np.random.default_rng((self._seed, index, self._process, turn))
            key = jax.random.key(int(rng.integers(2**31)))
            batch = _photographed(batch, key, self._photographic, inputs)
        return jax.device_get(batch), info

    def _make(self, index: int) -> tuple[Batch, dict[str, Any]]:
        """The rooms of one batch."""
        num_targets, height, width = self._size
        # The number of views is the same in all processes: they run one program together.
        shared = np.random.default_rng((self._seed, index))
        num_inputs = self._num_inputs[shared.integers(len(self._num_inputs))]
        baseline = float(shared.uniform(*self._baseline))
        own = np.random.default_rng((self._seed, index, self._process))
        samples = self._images_per_step // num_inputs or self._batch_size
        seeds = own.integers(*self._seeds, size=samples, dtype=np.uint32)
        batch = sample_batch(seeds, num_inputs, num_targets, height, width, baseline=baseline)
        ids = [f"rooms/{seed}" for seed in seeds]
        return batch, {"ids": ids, "num_inputs": num_inputs, "baseline": baseline}

    def get_state(self) -> dict[str, int]:
        """Position before the next batch."""
        return {"next": self._next}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to a position that ``get_state`` gave."""
        self._next = int(state["next"])


@partial(jax.jit, static_argnames=("num_inputs", "shift"))
def _rolled(batch: Batch, num_inputs: int, shift: int) -> Batch:
    """The same samples with input view ``shift`` first; render-only views stay."""

    def roll(x: jax.Array) -> jax.Array:
        inputs = jnp.roll(x[:, :num_inputs], -shift, axis=1)
        return jnp.concatenate([inputs, x[:, num_inputs:]], axis=1)

    return jax.tree.map(roll, batch)


@partial(jax.jit, static_argnames=("num_inputs",))
def _photographed(batch: Batch, key: jax.Array, strength: float, num_inputs: int) -> Batch:
    """Input views as a cheap camera takes them."""
    images = batch.images[:, :num_inputs]
    images = 2 * photograph(key, (images + 1) / 2, strength) - 1
    return batch.replace(images=jnp.concatenate([images, batch.images[:, num_inputs:]], axis=1))
