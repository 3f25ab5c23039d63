"""Mixtures of sources, drawn batch by batch: stored data sets, and rooms made on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data.rooms.stream import RoomsSource
from data.stored.config import DataConfig
from data.stored.stream import RecordsIterator
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
        """Goes to a position, or stays where it is.

        Raises:
          ValueError: it belongs to a mixture of another number of parts, or to another part.
        """
        if len(state["parts"]) != len(self._iterators):
            raise ValueError(
                f"this position in the data is that of {len(state['parts'])} parts, the mixture "
                f"has {len(self._iterators)}; a new workdir (with init_from) starts from the first"
            )
        before = [part.get_state() for part in self._iterators]
        try:
            for part, position in zip(self._iterators, state["parts"], strict=True):
                part.set_state(position)
        except (KeyError, TypeError, ValueError):
            for part, position in zip(self._iterators, before, strict=True):
                part.set_state(position)
            raise
        self._step = state["step"]


def make_train_iterator(
    cfg: DataConfig,
    *,
    seed: int,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
):
    """This process's endless stream of batches; ``batch_size`` counts its own samples."""
    place = dict(
        seed=seed, batch_size=batch_size, process_index=process_index, process_count=process_count
    )
    parts, weights = [], []
    if cfg.folders:
        parts.append(RecordsIterator(cfg, **place))
        weights.append(1 - cfg.rooms_share)
    if cfg.rooms_share:
        height, width = cfg.image_size
        live = RoomsSource(
            batch_size=batch_size,
            num_inputs=cfg.num_inputs,
            num_targets=cfg.num_targets,
            height=height,
            width=width,
            seed=seed,
            split=cfg.split,
            baseline=cfg.baseline,
            process_index=process_index,
            process_count=process_count,
        )
        parts.append(live)
        weights.append(cfg.rooms_share)
    return parts[0] if len(parts) == 1 else MixedIterator(parts, weights, seed)


def records_source(
    *,
    mixture: Sequence[tuple[str, float]] = (),
    split: str,
    height: int,
    width: int,
    num_inputs: Sequence[int],
    num_targets: int,
    baseline: Sequence[float],
    augment: bool = True,
    threads: int = DataConfig.threads,
    read_ahead: int = DataConfig.read_ahead,
    **place: int,
):
    """``make_train_iterator`` from plain values.

    augment: vary colors, zoom and the order of views of the training split; others never are.
    place: seed, batch_size (of this process), process_index, process_count.
    """
    if not mixture:
        raise ValueError("data.mixture names no data set: expected (folder, weight) pairs")
    varied = augment and split == "train"
    cfg = DataConfig(
        sources=tuple((str(name), float(weight)) for name, weight in mixture),
        split=split,
        num_inputs=tuple(num_inputs),
        num_targets=num_targets,
        image_size=(height, width),
        augment=varied,
        shuffle_views=varied,
        baseline=tuple(baseline),
        threads=threads,
        read_ahead=read_ahead,
    )
    return make_train_iterator(cfg, **place)
