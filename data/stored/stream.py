"""Batches for training and evaluation, from stored data sets and from rooms made on the fly.

Training samples are numbered; everything about a sample (trajectory, order of views, augmentation)
follows from the seed and its number. So the position is one number, restored exactly, and the
result does not depend on threads. Within a stream (one data set, one entry of ``num_inputs``) every
trajectory comes once before any comes twice; Grain shuffles, mixes and reads ahead.

``next(iterator)`` gives ``(Batch, info)``: arrays of this process's samples, inputs first, then
targets; ``info["ids"]`` one string a sample, ``info["num_targets"]``, ``info["skipped"]`` what this
batch passed over and why. ``get_state()`` is JSON-able and describes the position before the next
batch; ``set_state`` goes there.
"""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np
from jaxtyping import Int

from data.mixture import MixedIterator
from data.stored.reader import TrajectorySet, decode_views
from data.stored.schema import CorruptRecord
from mvdust3r_jax.types import Batch

# The name of rooms made on the fly among the sources of a mixture.
ROOMS = "rooms"
# Corrupt samples in a row after which the data set, not the record, is at fault.
_MAX_ATTEMPTS = 50
# More samples than any run sees; Grain wants a finite length.
_ENDLESS = 2**48


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What a stream of batches is made of.

    sources: (folder of a data set, weight) pairs, or ("rooms", weight) for rooms on the fly.
    num_inputs: numbers of views; each batch has one of them, each occurs equally often.
    image_size: (height, width). augment: random resize and color jitter; color, hue: strength.
    shuffle_views: random order of the inputs. baseline: of rooms on the fly, how far apart views
    are (1: a few steps), drawn per batch from this range. threads: that decode. read_ahead: samples
    decoded in advance (memory: 16 bytes a pixel and view).
    """

    sources: tuple[tuple[str, float], ...]
    split: str = "train"
    num_inputs: tuple[int, ...] = (8,)
    num_targets: int = 2
    image_size: tuple[int, int] = (224, 224)
    augment: bool = True
    color: float = 0.5
    hue: float = 0.1
    shuffle_views: bool = True
    baseline: tuple[float, float] = (0.5, 1.5)
    threads: int = 4
    read_ahead: int = 16

    def __post_init__(self):
        if not self.sources or min(weight for _, weight in self.sources) <= 0:
            raise ValueError(f"expected sources with positive weights, got {self.sources}")
        if not self.num_inputs or min(self.num_inputs) < 1 or self.num_targets < 0:
            raise ValueError(
                f"expected views >= 1 and targets >= 0, got {self.num_inputs}, {self.num_targets}"
            )

    @property
    def folders(self) -> tuple[tuple[str, float], ...]:
        """The stored sources."""
        return tuple((name, weight) for name, weight in self.sources if name != ROOMS)

    @property
    def rooms_share(self) -> float:
        """Which share of the batches shows rooms made on the fly."""
        total = sum(weight for _, weight in self.sources)
        return sum(weight for name, weight in self.sources if name == ROOMS) / total


def slot_of_step(seed: int, step: int, slots: int) -> int:
    """Which entry of ``num_inputs`` a batch has: blocks of all entries, each in a random order."""
    block = np.random.default_rng([seed, step // slots]).permutation(slots)
    return int(block[step % slots])


@dataclasses.dataclass(frozen=True)
class _Ticket:
    """One sample to load. number: unique over steps, processes and places in the batch."""

    source: int
    trajectory: int
    num_inputs: int
    number: int


class _Schedule:
    """Sample number of this process -> ticket; the only place that knows the order."""

    def __init__(self, cfg, sets, *, seed, batch_size, process_index, process_count, start=None):
        self._slots, self._seed, self._batch = cfg.num_inputs, seed, batch_size
        self._first, self._all = process_index * batch_size, process_count * batch_size
        self._start = start or {"next": 0, "sample": 0, "slots": [0] * len(self._slots)}
        weights = [weight for _, weight in cfg.folders]
        self._streams = [
            _mixture(sets, weights, cfg, num_inputs, seed + 1000 * slot)
            for slot, num_inputs in enumerate(self._slots)
        ]

    def __len__(self) -> int:
        return _ENDLESS

    def _turns(self, slot: int, step: int) -> int:
        """How many batches before this step have this slot: it occurs once in every block."""
        block = step // len(self._slots)
        before = range(block * len(self._slots), step)
        return block + sum(slot_of_step(self._seed, s, len(self._slots)) == slot for s in before)

    def position(self, batches: int) -> dict[str, Any]:
        """Of the whole run, ``batches`` after the start: batches, samples, samples of each slot."""
        start, step = self._start, self._start["next"] + batches
        slots = [
            seen + self._all * (self._turns(slot, step) - self._turns(slot, start["next"]))
            for slot, seen in enumerate(start["slots"])
        ]
        return {"next": step, "sample": start["sample"] + batches * self._all, "slots": slots}

    def __getitem__(self, index: int) -> _Ticket:
        batches, place = divmod(int(index), self._batch)
        here = self.position(batches)
        slot = slot_of_step(self._seed, here["next"], len(self._slots))
        source, trajectory = self._streams[slot][here["slots"][slot] + self._first + place]
        number = here["sample"] + self._first + place
        return _Ticket(source, int(trajectory), self._slots[slot], number)


def _mixture(sets, weights, cfg: DataConfig, num_inputs: int, seed: int) -> grain.MapDataset:
    """Endless (source, trajectory) pairs in the given proportions, each source shuffled."""
    streams, kept = [], []
    for number, (trajectories, weight) in enumerate(zip(sets, weights, strict=True)):
        eligible = trajectories.eligible(num_inputs, cfg.num_targets)
        if not len(eligible):
            raise ValueError(
                f"{trajectories.root} ({trajectories.split}): none of {len(trajectories)} "
                f"trajectories has {num_inputs} inputs that cover {cfg.num_targets} targets"
            )
        pairs = [(number, trajectory) for trajectory in eligible]
        shuffled = grain.MapDataset.source(pairs).seed(seed + number).shuffle()
        streams.append(shuffled.repeat(None))
        kept.append(weight)
    return grain.MapDataset.mix(streams, kept)


class _Loader:
    """Ticket -> sample as a dict of arrays; passes over what is corrupt."""

    def __init__(self, cfg: DataConfig, sets: Sequence[TrajectorySet], seed: int):
        self._cfg, self._sets, self._seed = cfg, sets, seed

    def __call__(self, ticket: _Ticket) -> dict[str, Any]:
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
    """Endless training batches from stored data sets. ``skipped``: corrupt samples so far."""

    def __init__(self, cfg: DataConfig, *, seed, batch_size, process_index=0, process_count=1):
        if not 0 <= process_index < process_count:
            raise ValueError(f"process {process_index} of {process_count} processes")
        sets = [TrajectorySet(folder, cfg.split) for folder, _ in cfg.folders]
        place = {"process_index": process_index, "process_count": process_count}
        self._schedule = functools.partial(
            _Schedule, cfg, sets, seed=seed, batch_size=batch_size, **place
        )
        self._load, self._batch = _Loader(cfg, sets, seed), batch_size
        self._options = grain.ReadOptions(cfg.threads, max(cfg.read_ahead, cfg.threads))
        self.skipped, self._num_targets = 0, cfg.num_targets
        # By name and length, not by path: a data set may be moved between two runs.
        weights = [weight for _, weight in cfg.folders]
        named = [(s.root.name, len(s), w) for s, w in zip(sets, weights, strict=True)]
        ordering = named, cfg.split, cfg.num_inputs, cfg.num_targets
        self._key = zlib.crc32(repr((ordering, seed)).encode())
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
        return position | {"skipped": self.skipped, "key": self._key}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position, whatever number of processes and batch size it comes from.

        Raises:
          ValueError: it belongs to other data sets, views or another seed.
        """
        if state["key"] != self._key or "slots" not in state:
            raise ValueError(
                "this position in the data belongs to other sources, another split, other numbers "
                "of views or another seed; a new workdir (with init_from) starts from the first"
            )
        self._start({name: state[name] for name in ("next", "sample", "slots")})
        self.skipped = state["skipped"]


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
        from data.rooms.stream import RoomsSource

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
    threads: int = DataConfig.threads,
    read_ahead: int = DataConfig.read_ahead,
    **place: int,
):
    """``make_train_iterator`` from plain values; only the training split is augmented.

    place: seed, batch_size (of this process), process_index, process_count.
    """
    if not mixture:
        raise ValueError("data.mixture names no data set: expected (folder, weight) pairs")
    training = split == "train"
    cfg = DataConfig(
        sources=tuple((str(name), float(weight)) for name, weight in mixture),
        split=split,
        num_inputs=tuple(num_inputs),
        num_targets=num_targets,
        image_size=(height, width),
        augment=training,
        shuffle_views=training,
        baseline=tuple(baseline),
        threads=threads,
        read_ahead=read_ahead,
    )
    return make_train_iterator(cfg, **place)


def release_order(num_inputs: int) -> Int[np.ndarray, "V"]:
    """The order in which the release's evaluation shows the input views: ``network_order``."""
    # Evaluation needs the network's package anyway; training streams do without.
    from mvdust3r_jax.models.view_order import network_order

    return np.array(network_order(num_inputs))


def make_eval_iterator(
    cfg: DataConfig,
    num_inputs: int,
    num_targets: int,
    batch_size: int,
    *,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[tuple[Batch, dict[str, Any]]]:
    """Every eligible trajectory once, in stored order, views in the release's order, not augmented.

    The last batch may be smaller; corrupt samples are left out and listed in ``info["skipped"]``.
    """
    cfg = dataclasses.replace(cfg, augment=False, shuffle_views=False)
    sets = [TrajectorySet(folder, cfg.split) for folder, _ in cfg.folders]
    pairs = [
        (source, trajectory)
        for source in sets
        for trajectory in source.eligible(num_inputs, num_targets)
    ][process_index::process_count]
    order = np.concatenate(
        [release_order(num_inputs), np.arange(num_inputs, num_inputs + num_targets)]
    )

    def load(pair):
        source, trajectory = pair
        try:
            records = source.records(trajectory, num_inputs, num_targets)[order]
            views = decode_views(source.read(records), cfg.image_size)
        except CorruptRecord as error:
            return {"skipped": [str(error)]}
        name = f"{source.root.name}/{source.scenes[trajectory]}/{trajectory}"
        return vars(views) | {"id": name, "skipped": []}

    options = grain.ReadOptions(cfg.threads, max(cfg.read_ahead, cfg.threads))
    samples = grain.MapDataset.source(pairs).map(load).to_iter_dataset(options)
    return _full_batches(samples, batch_size, num_targets)


def _full_batches(samples, batch_size: int, num_targets: int):
    good, skipped = [], []

    def emit():
        batch, ids, _ = batch_from_examples(good)
        return batch, {"ids": ids, "num_targets": num_targets, "skipped": skipped}

    for sample in samples:
        skipped = skipped + sample["skipped"]
        if "id" in sample:
            good.append(sample)
        if len(good) == batch_size:
            yield emit()
            good, skipped = [], []
    if good:
        yield emit()
