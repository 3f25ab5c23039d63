"""Batches put on the device ahead of time, by a thread of their own."""

from __future__ import annotations

import concurrent.futures
from collections import deque
from collections.abc import Callable
from typing import Any

import jax

from mvdust3r_jax.types import Batch


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
        try:
            batch, info = next(self._iterator)
            return position, (self._put(batch), info)
        except Exception as error:
            return position, error

    def _fill(self) -> None:
        while len(self._queue) < self._depth:
            self._queue.append(self._thread.submit(self._fetch))

    def __iter__(self) -> DevicePrefetch:
        return self

    def __next__(self):
        self._fill()
        _, fetched = self._queue[0].result()
        # It stays the oldest: whoever goes on from its position asks for the same batch again.
        if isinstance(fetched, Exception):
            raise fetched
        self._queue.popleft()
        self._fill()
        return fetched

    def get_state(self):
        """Position before the next batch that will be handed out."""
        self._fill()
        return self._queue[0].result()[0]

    def set_state(self, state) -> None:
        """Goes to a position; what was fetched ahead is dropped."""
        concurrent.futures.wait(self._queue)
        self._queue.clear()
        self._iterator.set_state(state)
