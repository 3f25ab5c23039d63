"""Every source of training batches: positions, processes, batch sizes, reading ahead, mixtures."""

import json
from functools import partial

import jax
import numpy as np
import pytest

from data.device_prefetch import DevicePrefetch
from data.mixture import MixedIterator, make_train_iterator
from data.training_batches import make_source
from tests.data.stored.boxes_set import TRAJECTORIES, assert_equal, config, take


def global_batches(source, count, processes, **settings):
    """Sources of all processes, opened, and a function that reads global batches from them."""
    settings = dict(seed=3, split="train", num_inputs=(4, 6), num_targets=1) | settings
    sources = [
        make_source(source, batch_size=count, process_index=p, process_count=processes, **settings)
        for p in range(processes)
    ]

    def take_global(steps):
        seen = []
        for _ in range(steps):
            parts = [next(s) for s in sources]
            batch = jax.tree.map(lambda *x: np.concatenate(x), *(b for b, _ in parts))
            seen.append((batch, [i for _, info in parts for i in info["ids"]]))
        return seen

    return sources, take_global


@pytest.mark.parametrize("source", ["box", "rooms", "records"])
def test_any_number_of_processes_sees_the_samples_that_one_would_see(folder, source):
    """Also after a resume on another number: images, ids, and how many views each batch has.

    Rooms of another number of samples are another program, so their last digits may differ.
    """
    tolerance = 1e-4 if source == "rooms" else 0.0
    settings = dict(height=16, width=16, baseline=(0.5, 1.5))
    if source == "records":
        settings |= dict(mixture=((str(folder), 1.0),), threads=1, read_ahead=1)
    if source == "rooms":  # one program for each number of processes
        settings |= dict(num_inputs=(2,))
    _, take_one = global_batches(source, 4, 1, **settings)
    expected = take_one(7)
    before, take_two = global_batches(source, 4, 2, **settings)
    seen = take_two(3)
    positions = json.loads(json.dumps([s.get_state() for s in before]))
    assert positions[0] == positions[1]
    after, take_four = global_batches(source, 4, 4, **settings)
    for s in after:
        s.set_state(positions[0])
    for (a, ids_a), (b, ids_b) in zip(expected, seen + take_four(4), strict=True):
        assert ids_a == ids_b
        jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=tolerance), a, b)


@pytest.mark.parametrize("source", ["box", "records"])
def test_another_batch_size_goes_on_without_repeating_or_losing_a_sample(folder, source):
    """First four, then two at a time: every trajectory once in its epoch, whatever its views."""
    settings = dict(height=8, width=8, baseline=(1.0, 1.0))
    if source == "records":
        settings |= dict(mixture=((str(folder), 1.0),), threads=1, read_ahead=1)
    (first,), take_four = global_batches(source, 4, 1, **settings)
    seen = take_four(5)
    (second,), take_two = global_batches(source, 2, 1, **settings)
    second.set_state(first.get_state())
    seen += take_two(12)
    for views in (5, 7) if source == "records" else ():
        ids = [i for batch, info in seen if batch.images.shape[1] == views for i in info]
        size = 2 * TRAJECTORIES if views == 5 else TRAJECTORIES
        assert len(ids) > size
        assert len(set(ids[:size])) == size
    if source == "box":
        assert [i for _, info in seen for i in info] == [f"box/{n}" for n in range(44)]


def test_prefetched_batches_are_the_same_and_their_position_is_the_next_batch(folder):
    """Reading ahead changes neither content nor the position that a checkpoint stores."""
    plain = make_train_iterator(config(folder), seed=2, batch_size=2)
    ahead = DevicePrefetch(make_train_iterator(config(folder), seed=2, batch_size=2))
    expected = take(plain, 6)
    assert_equal(take(ahead, 3), expected[:3])
    state = ahead.get_state()
    assert_equal(take(ahead, 3), expected[3:])
    ahead.set_state(state)
    assert_equal(take(ahead, 3), expected[3:])


def test_mixed_iterators_resume_exactly(folder):
    """Parts are drawn by step, and their own positions are kept."""

    def make():
        parts = [make_train_iterator(config(folder), seed=s, batch_size=1) for s in (1, 2)]
        return MixedIterator(parts, [0.5, 0.5], seed=0)

    iterator = make()
    take(iterator, 5)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = take(iterator, 5)
    resumed = make()
    resumed.set_state(state)
    assert_equal(take(resumed, 5), expected)


def test_training_source_reads_built_data_sets(folder):
    """``config.data.source = 'records'``; only the training split is augmented."""
    settings = dict(
        source="records",
        mixture=((str(folder), 1.0),),
        batch_size=2,
        process_index=0,
        process_count=1,
        seed=0,
        height=32,
        width=32,
        num_inputs=(4,),
        num_targets=1,
        baseline=(1.0, 1.0),
    )
    for split, centered in (("train", False), ("test", True)):
        batch, _ = next(make_source(**settings, split=split))
        focal = np.unique(batch.intrinsics[..., 0, 0])
        assert (len(focal) == 1) == centered
    with pytest.raises(ValueError, match="mixture"):
        make_source(**(settings | {"mixture": ()}), split="train")


def test_threads_and_read_ahead_reach_stored_data_sets_and_no_other_source(monkeypatch):
    """Both are fields of ``config.data``; boxes and rooms are opened with them, and ignore them."""
    opened = []

    def open_in_its_place(cfg, **_):
        opened.append(cfg)
        return make_source("box", mixture=(), **settings)

    monkeypatch.setattr("data.mixture.make_train_iterator", open_in_its_place)
    settings = dict(
        batch_size=2, process_index=0, process_count=1, seed=0, height=32, width=32, split="train"
    ) | dict(num_inputs=(4,), num_targets=1, baseline=(1.0, 1.0), threads=7, read_ahead=3)
    make_source("records", mixture=(("unread", 1.0),), **settings)
    assert (opened[0].threads, opened[0].read_ahead) == (7, 3)
    for other in ("box", "rooms"):
        assert make_source(other, mixture=(), **settings).get_state()["next"] == 0
    assert len(opened) == 1
