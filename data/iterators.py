"""Iterators over iterators: mixtures drawn batch by batch, and batches put on the device ahead.

All keep the protocol of ``data.pipeline``: ``next`` gives ``(Batch, info)``; ``get_state`` is the
position before the next batch that will be handed out.
"""

from __future__ import annotations

import concurrent.futures
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from mvdust3r_jax.types import Batch


class SamplePlace:
    """Which samples of an endless numbered stream this process's next batch holds.

    The position is that of the whole run: how many batches and how many samples all processes have
    seen. So a run may go on with another number of processes, or another batch size, and every
    sample still comes once.
    """

    def __init__(self, batch_size: int, process_index: int = 0, process_count: int = 1):
        self._own, self._first = batch_size, batch_size * process_index
        self._all = batch_size * process_count
        self._next, self._sample = 0, 0

    def advance(self) -> tuple[int, list[int]]:
        """Number of the next batch, and the numbers of this process's samples in it."""
        index, first = self._next, self._sample + self._first
        self._next, self._sample = index + 1, self._sample + self._all
        return index, list(range(first, first + self._own))

    def get_state(self) -> dict[str, int]:
        """Batches and samples before the next batch."""
        return {"next": self._next, "sample": self._sample}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to a position; those of older checkpoints count batches of this run's size."""
        self._next = int(state["next"])
        self._sample = int(state.get("sample", self._next * self._all))


class MixedIterator:
    """Batches of several iterators, each drawn by weight with the seed and the step."""

    def __init__(self, iterators: Sequence[Any], weights: Sequence[float], seed: int):
        self._iterators, self._weights, self._seed, self._step = iterators, weights, seed, 0

    def __iter__(self) -> MixedIterator:
        return self

    def __next__(self) -> tuple[Batch, dict[str, Any]]:
        # The same draw in every process: all run the same program on the same shapes.
        rng = np.random.default_rng([self._seed, 2, self._step])
        self._step += 1
        return next(self._iterators[rng.choice(len(self._weights), p=self._weights)])

    def get_state(self) -> dict[str, Any]:
        """Position before the next batch."""
        return {"step": self._step, "parts": [part.get_state() for part in self._iterators]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position."""
        self._step = state["step"]
        for part, position in zip(self._iterators, state["parts"], strict=True):
            part.set_state(position)


class DevicePrefetch:
    """Another iterator's batches, put on the device ahead of time by a thread of its own.

    put: ``Batch`` to device arrays. depth: batches in flight; 2 is double buffering. The position
    is that of the oldest batch not yet handed out.
    """

    def __init__(self, iterator, put: Callable[[Batch], Any] = jax.device_put, depth: int = 2):
        self._iterator, self._put, self._depth = iterator, put, depth
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._queue: deque = deque()

    def _fetch(self):
        position = self._iterator.get_state()
        batch, info = next(self._iterator)
        return position, self._put(batch), info

    def _fill(self) -> None:
        while len(self._queue) < self._depth:
            self._queue.append(self._thread.submit(self._fetch))

    def __iter__(self) -> DevicePrefetch:
        return self

    def __next__(self):
        self._fill()
        _, batch, info = self._queue.popleft().result()
        self._fill()
        return batch, info

    def get_state(self):
        """Position before the next batch that will be handed out."""
        self._fill()
        return self._queue[0].result()[0]

    def set_state(self, state) -> None:
        """Goes to a position; what was fetched ahead is dropped."""
        concurrent.futures.wait(self._queue)
        self._queue.clear()
        self._iterator.set_state(state)
