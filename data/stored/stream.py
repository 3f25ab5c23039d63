"""Batches for training from stored data sets.

Training samples are numbered; everything about a sample (trajectory, order of views, augmentation)
follows from the seed and its number. So the position is a few numbers, restored exactly, and the
result does not depend on threads. Within a stream (one data set, one entry of ``num_inputs``) every
trajectory comes once before any comes twice; Grain shuffles, mixes and reads ahead.

``next(iterator)`` gives ``(Batch, info)``: arrays of this process's samples, inputs first, then
targets; ``info["ids"]`` one string a sample, ``info["num_targets"]``, ``info["skipped"]`` what this
batch passed over and why. ``get_state()`` is JSON-able and describes the position before the next
batch; ``set_state`` goes there.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from typing import Any

import grain
import numpy as np

from data.schema import CorruptRecord
from data.stored.config import DataConfig
from data.stored.made_from import digest
from data.stored.reader import TrajectorySet, decode_views
from data.stored.schedule import Schedule, Ticket
from mvdust3r_jax.types import Batch

# Corrupt samples in a row after which the data set, not the record, is at fault.
_MAX_ATTEMPTS = 50


class _Loader:
    """Ticket -> sample as a dict of arrays; passes over what is corrupt."""

    def __init__(self, cfg: DataConfig, sets: Sequence[TrajectorySet], seed: int):
        self._cfg, self._sets, self._seed = cfg, sets, seed

    def __call__(self, ticket: Ticket) -> dict[str, Any]:
        rng = np.random.default_rng([self._seed, 1, ticket.number])
        skipped, trajectory = [], ticket.trajectory
        source = self._sets[ticket.source]
        for _ in range(_MAX_ATTEMPTS):
            try:
                return self._load(source, trajectory, ticket.num_inputs, rng, skipped)
            except CorruptRecord as error:
                skipped.append(str(error))
                # Another one of the same kind, so that the batch keeps its shape.
                eligible = source.eligible(ticket.num_inputs, self._cfg.num_targets)
                trajectory = int(rng.choice(eligible))
        raise CorruptRecord(
            f"{source.root}: {_MAX_ATTEMPTS} corrupt samples in a row, the last: {skipped[-1]}"
        )

    def _load(self, source, trajectory, num_inputs, rng, skipped) -> dict[str, Any]:
        cfg = self._cfg
        records = source.records(trajectory, num_inputs, cfg.num_targets, rng)
        if cfg.shuffle_views:
            records[:num_inputs] = rng.permutation(records[:num_inputs])
        views = decode_views(
            source.read(records),
            cfg.image_size,
            rng=rng if cfg.augment else None,
            color=cfg.color,
            hue=cfg.hue,
        )
        name = f"{source.root.name}/{source.scenes[trajectory]}/{trajectory}"
        return vars(views) | {"id": name, "skipped": skipped}


def batch_from_examples(samples: Sequence[dict[str, Any]]) -> tuple[Batch, list[str], list[str]]:
    """Samples of equal shape stacked to a batch; their ids; what was skipped for them."""
    names = ("images", "depth_m", "world_from_cam", "intrinsics")
    batch = Batch(**{name: np.stack([sample[name] for sample in samples]) for name in names})
    skipped = [line for sample in samples for line in sample["skipped"]]
    return batch, [sample["id"] for sample in samples], skipped


class RecordsIterator:
    """Endless training batches from stored data sets.

    skipped: corrupt samples so far. epoch_samples: how many trajectories can be drawn with the one
    of ``num_inputs`` for which there are most.
    """

    def __init__(self, cfg: DataConfig, *, seed, batch_size, process_index=0, process_count=1):
        if not 0 <= process_index < process_count:
            raise ValueError(f"process {process_index} of {process_count} processes")
        sets = [TrajectorySet(folder, cfg.split) for folder, _ in cfg.folders]
        place = {"process_index": process_index, "process_count": process_count}
        self._schedule = functools.partial(
            Schedule, cfg, sets, seed=seed, batch_size=batch_size, **place
        )
        self._load, self._batch = _Loader(cfg, sets, seed), batch_size
        self._options = grain.ReadOptions(cfg.threads, max(cfg.read_ahead, cfg.threads))
        self.skipped, self._num_targets = 0, cfg.num_targets
        counts = [[len(s.eligible(n, cfg.num_targets)) for s in sets] for n in cfg.num_inputs]
        self.epoch_samples = max(map(sum, counts))
        # By name and length, not by path: a data set may be moved between two runs.
        weights = [weight for _, weight in cfg.folders]
        named = [(s.root.name, len(s), w) for s, w in zip(sets, weights, strict=True)]
        ordering = named, cfg.split, cfg.num_inputs, cfg.num_targets
        self._key = zlib.crc32(repr((ordering, seed)).encode())
        self._made_from = [digest(s.root) for s in sets]
        self._start(None)

    def _start(self, position: dict[str, Any] | None) -> None:
        """Begins to read ahead from a position of the run."""
        self._order, self._batches = self._schedule(start=position), 0
        samples = grain.MapDataset.source(self._order).map(self._load)
        batches = samples.to_iter_dataset(self._options).batch(
            self._batch, drop_remainder=True, batch_fn=batch_from_examples
        )
        self._grain = iter(batches)

    def __iter__(self) -> RecordsIterator:
        return self

    def __next__(self) -> tuple[Batch, dict[str, Any]]:
        batch, ids, skipped = next(self._grain)
        self._batches += 1
        self.skipped += len(skipped)
        return batch, {"ids": ids, "num_targets": self._num_targets, "skipped": skipped}

    def get_state(self) -> dict[str, Any]:
        """Position before the next batch, of the whole run but for ``skipped``."""
        position = self._order.position(self._batches)
        told = {"skipped": self.skipped, "key": self._key, "made_from": self._made_from}
        return position | told

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position, whatever number of processes and batch size it comes from.

        Raises:
          ValueError: it belongs to other data sets, views or another seed, or to data sets that
          were built anew from something else since.
        """
        if state["key"] != self._key or "slots" not in state:
            raise ValueError(
                "this position in the data belongs to other sources, another split, other numbers "
                "of views or another seed; a new workdir (with init_from) starts from the first"
            )
        # Positions of earlier versions do not say it.
        if state.get("made_from", self._made_from) != self._made_from:
            raise ValueError(
                "the data sets were built anew since this position in the data, from other files "
                "or with other options; a new workdir (with init_from) starts from the first sample"
            )
        self._start({name: state[name] for name in ("next", "sample", "slots")})
        self.skipped = state["skipped"]
