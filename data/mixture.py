"""Mixtures of sources, drawn batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mvdust3r_jax.types import Batch


class MixedIterator:
    """Batches of several iterators, each drawn by weight with the seed and the step.

    epoch_samples: until the stored ones have been seen once; 0 without any.
    """

    def __init__(self, iterators: Sequence[Any], weights: Sequence[float], seed: int):
        self._iterators, self._weights, self._seed, self._step = iterators, weights, seed, 0
        stored = [
            int(part.epoch_samples / weight)
            for part, weight in zip(iterators, weights, strict=True)
            if part.epoch_samples
        ]
        self.epoch_samples = max(stored, default=0)

    def __iter__(self) -> MixedIterator:
        return self

    def __next__(self) -> tuple[Batch, dict[str, Any]]:
        # The same draw in every process: all run the same program on the same shapes.
        rng = np.random.default_rng([self._seed, 2, self._step])
        self._step += 1
        return next(self._iterators[rng.choice(len(self._weights), p=self._weights)])

    def get_state(self) -> dict[str, Any]:
        """Position before the next batch; ``sample``: how many of all parts come before it."""
        parts = [part.get_state() for part in self._iterators]
        return {"step": self._step, "sample": sum(p["sample"] for p in parts), "parts": parts}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position.

        Raises:
          ValueError: it belongs to a mixture of another number of parts.
        """
        if len(state["parts"]) != len(self._iterators):
            raise ValueError(
                f"this position in the data is that of {len(state['parts'])} parts, the mixture "
                f"has {len(self._iterators)}; a new workdir (with init_from) starts from the first"
            )
        self._step = state["step"]
        for part, position in zip(self._iterators, state["parts"], strict=True):
            part.set_state(position)
