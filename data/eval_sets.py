"""Trajectories to evaluate on: ids that a split file fixes, and batches of them in NumPy.

The same ids serve every method. Input views come in the order in which the published evaluation
shows them (the first views, which act as references, are spread over the trajectory).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data.schema import CorruptRecord
from mvdust3r_jax.evaluation.sets import Unreadable, read_split
from mvdust3r_jax.models.view_order import network_order
from mvdust3r_jax.types import Batch


@dataclasses.dataclass(frozen=True)
class EvalSet:
    """What `mvdust3r_jax.evaluation.sets.EvalSet` asks for, out of two functions."""

    name: str
    size: tuple[int, int]
    ids: Callable[[int, int], Sequence[str]]
    load: Callable[[Sequence[str], int, int], Batch]
    split: str = ""


def _ordered(batch: Batch, num_inputs: int) -> Batch:
    """Input views in the published order, render-only views after them."""
    order = np.arange(batch.images.shape[1])
    order[:num_inputs] = network_order(num_inputs)
    return jax.tree.map(lambda x: np.asarray(x)[:, order], batch)


def _check_rooms(name: str, wanted: Sequence[str], split: str) -> None:
    """ValueError naming the first id that is no room of the split."""
    from data.rooms import ROOMS_VERSION, SPLITS

    low, high = SPLITS[split]
    for room in wanted:
        version, _, seed = room.partition(":")
        whole = re.fullmatch("0|[1-9][0-9]{0,9}", seed)
        if version != ROOMS_VERSION or not whole or not low <= int(seed) < high:
            raise ValueError(
                f"{name}: rooms of the split {split!r} have ids {ROOMS_VERSION}:{low} to "
                f"{ROOMS_VERSION}:{high - 1}, got {room!r}"
            )


def rooms_set(
    name: str,
    wanted: Sequence[str] | None,
    *,
    split: str,
    count: int,
    height: int,
    width: int,
    options: Mapping[str, Any] | None = None,
) -> EvalSet:
    """Procedural rooms, id ``version:seed``; without ids the first ``count`` seeds of the split.

    options: fields of ``data.rooms.Options`` that differ from its defaults.
    """
    from data.rooms import ROOMS_VERSION, SPLITS, options_from, sample_batch

    if split not in SPLITS:
        raise ValueError(f"{name}: split must be one of {sorted(SPLITS)}, got {split!r}")
    if wanted is None:
        if count < 1:
            raise ValueError(f"{name}: count must be at least 1 for rooms, got {count}")
        first = SPLITS[split][0]
        wanted = [f"{ROOMS_VERSION}:{first + i}" for i in range(count)]
    _check_rooms(name, wanted, split)
    try:
        drawn_from = options_from(options)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error

    def load(ids: Sequence[str], num_inputs: int, num_targets: int) -> Batch:
        seeds = np.array([int(i.partition(":")[2]) for i in ids], np.uint32)
        size = num_inputs, num_targets, height, width
        batch = sample_batch(seeds, *size, options=drawn_from)
        return _ordered(batch, num_inputs)

    def ids(num_inputs: int, num_targets: int) -> Sequence[str]:
        return tuple(wanted)

    return EvalSet(name, (height, width), ids, load, split)


def _check_eligible(name: str, wanted: Sequence[str], eligible: Sequence[str], views: str) -> None:
    """ValueError naming the first of the wanted trajectories that are too short."""
    found = set(eligible)
    lacking = [i for i in wanted if i not in found]
    if lacking:
        raise ValueError(
            f"{name}: the split file names {', '.join(lacking[:5])} ({len(lacking)} of "
            f"{len(wanted)}), which have not {views} render-only views that these cover"
        )


def records_set(
    name: str,
    wanted: Sequence[str] | None,
    *,
    folder: str,
    split: str,
    height: int,
    width: int,
    count: int = 0,
) -> EvalSet:
    """A stored data set (``python -m data.build``), id ``scene/number``, frames not augmented.

    count: at most so many trajectories, evenly spread over those with enough views; 0 = all. With
    ids exactly these, in their order, and no count.
    """
    from data.stored.reader import TrajectorySet, decode_views

    if count < 0:
        raise ValueError(f"{name}: count must be at least 0 (all), got {count}")
    if wanted is not None and count:
        raise ValueError(
            f"{name}: a split file says which trajectories, but count = {count}, not 0"
        )
    stored = TrajectorySet(folder, split)
    names = [f"{scene}/{i}" for i, scene in enumerate(stored.scenes)]
    unknown = sorted(set(wanted or ()) - set(names))
    if unknown:
        raise ValueError(f"{name}: the split file names {unknown[0]!r}, which {folder} lacks")

    def ids(num_inputs: int, num_targets: int) -> Sequence[str]:
        chosen = [names[i] for i in stored.eligible(num_inputs, num_targets)]
        if not chosen:
            raise ValueError(
                f"{name}: none of {len(names)} trajectories has {num_inputs} input views and "
                f"{num_targets} render-only views; they have up to {stored.inputs.shape[1]} and "
                f"{stored.targets.shape[1]} (num_targets=0 leaves novel views out)"
            )
        if wanted is not None:
            _check_eligible(name, wanted, chosen, f"{num_inputs} input and {num_targets}")
            return list(wanted)
        if 0 < count < len(chosen):
            chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, count).astype(int)]
        return chosen

    def load(ids: Sequence[str], num_inputs: int, num_targets: int) -> Batch:
        views = []
        for trajectory in (int(i.rpartition("/")[2]) for i in ids):
            records = stored.records(trajectory, num_inputs, num_targets)
            try:
                views.append(decode_views(stored.read(records), (height, width)))
            except CorruptRecord as error:
                raise Unreadable(str(error)) from error
        fields = [f.name for f in dataclasses.fields(Batch)]
        batch = Batch(**{f: np.stack([getattr(v, f) for v in views]) for f in fields})
        return _ordered(batch, num_inputs)

    return EvalSet(name, (height, width), ids, load, split)


def make_eval_set(name: str, source: str, split_file: str = "", **settings) -> EvalSet:
    """The set of a config entry; ``split_file`` fixes its trajectories where given.

    Raises:
      ValueError: unknown source, or a split file of other data or of another split.
    """
    if min(settings.get("height", 1), settings.get("width", 1)) < 1:
        raise ValueError(f"{name}: height and width must be positive, got {settings}")
    split = settings.get("split", "")
    wanted = read_split(Path(split_file), name, split) if split_file else None
    if source == "rooms":
        return rooms_set(name, wanted, **settings)
    if source == "records":
        return records_set(name, wanted, **settings)
    raise ValueError(f"{name}: source must be 'rooms' or 'records', got {source!r}")
