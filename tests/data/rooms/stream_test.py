"""Rooms made while training: sizes of batches, reuse with other references, exact positions."""

import dataclasses

import jax
import numpy as np
import pytest

from data.training_batches import make_source
from mvdust3r_jax.types import Batch

SETTINGS = dict(
    source="rooms",
    batch_size=4,
    num_inputs=(2, 4),
    num_targets=1,
    height=16,
    width=16,
    seed=0,
    split="train",
    baseline=(0.5, 1.0),
    process_index=0,
    process_count=1,
)


def source(**changes):
    return make_source(**(SETTINGS | changes))


def made(seeds, views, targets, height, width, *, baseline=1.0, options=None):
    """In place of rooms: gray views, as deep as they are far apart."""
    shape = len(seeds), views + targets
    sizes = (height, width, 3), (height, width), (4, 4), (3, 3)
    batch = Batch(*(np.zeros((*shape, *size), np.float32) for size in sizes))
    return batch.replace(depth_m=batch.depth_m + np.float32(baseline))


def test_images_a_step_are_constant_whatever_the_number_of_views():
    """4 images: two samples of two views, or one of four."""
    stream = source(images_per_step=4)
    sizes = {next(stream)[0].images.shape[:2] for _ in range(6)}
    assert sizes == {(2, 3), (1, 5)}


def test_processes_share_the_images():
    """Each of two processes makes half of the samples, as many views in both."""
    parts = [source(images_per_step=8, process_index=i, process_count=2) for i in range(2)]
    for _ in range(3):
        shapes = [next(part)[0].images.shape[:2] for part in parts]
        assert shapes[0] == shapes[1] and shapes[0] in {(2, 3), (1, 5)}


def test_images_must_make_whole_samples():
    """Refused before the first step."""
    with pytest.raises(ValueError, match="images_per_step = 6 must be a multiple of 4 views"):
        source(images_per_step=6)


def test_reused_rooms_have_another_reference():
    """The same views of the same rooms in a rolled order; render-only views stay."""
    stream = source(num_inputs=(4,), reuse=2, images_per_step=4)
    (first, info), (second, again) = next(stream), next(stream)
    assert info["ids"] == again["ids"]
    for field in dataclasses.fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        np.testing.assert_array_equal(b[:, [2, 3, 0, 1, 4]], a)
    assert next(stream)[1]["ids"] != info["ids"]


def test_faults_are_of_input_views_only():
    """Images of inputs change, all else is that of clean rooms."""
    clean = next(source(images_per_step=4))[0]
    taken = next(source(images_per_step=4, photographic=1.0))[0]
    inputs = clean.images.shape[1] - 1
    assert np.abs(taken.images - clean.images)[:, :inputs].max() > 0.05
    np.testing.assert_array_equal(taken.images[:, inputs:], clean.images[:, inputs:])
    np.testing.assert_array_equal(taken.depth_m, clean.depth_m)


def test_colors_change_in_all_views_and_nothing_else():
    """Render-only views show the same surfaces as the inputs."""
    clean = next(source(images_per_step=4))[0]
    found = next(source(images_per_step=4, recolor=1.0))[0]
    assert np.abs(found.images - clean.images).mean(axis=(2, 3, 4)).min() > 0.02
    np.testing.assert_array_equal(found.depth_m, clean.depth_m)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"recolor": 50.0}, "share in .0, 1., got 50"),
        ({"photographic": -1.0}, "at least 0, got -1"),
    ],
)
def test_shares_and_strengths_out_of_range_are_named(change, told):
    """A percentage where a share is wanted would recolor every sample beyond recognition."""
    with pytest.raises(ValueError, match=told):
        source(images_per_step=4, **change)


@pytest.mark.parametrize("change", [{"photographic": 1.0}, {"recolor": 1.0}])
def test_every_sample_and_every_use_is_changed_in_its_own_way(monkeypatch, change):
    """Where all views are the same gray, two samples are taken differently, and each use anew."""
    monkeypatch.setattr("data.rooms.stream.sample_batch", made)
    stream = source(num_inputs=(2,), reuse=2, images_per_step=4, **change)
    first, again = (next(stream)[0].images[:, :2].mean(axis=(1, 2, 3, 4)) for _ in range(2))
    # Some faults are small; noise alone would not move a mean so far.
    for other in (first[::-1], again):
        assert np.abs(first - other).max() > 0.02


def test_rooms_follow_from_the_seed_and_are_as_far_apart_as_is_told(monkeypatch):
    """No room of another seed; each batch draws its distance from the whole range."""
    monkeypatch.setattr("data.rooms.stream.sample_batch", made)
    zero, one = ([next(stream) for _ in range(8)] for stream in (source(), source(seed=1)))
    rooms = [{i for _, info in batches for i in info["ids"]} for batches in (zero, one)]
    assert len(rooms[0]) == len(rooms[1]) == 32 and not rooms[0] & rooms[1]
    for batch, info in zero:
        np.testing.assert_array_equal(batch.depth_m, np.float32(info["baseline"]))
    told = [info["baseline"] for _, info in zero]
    assert 0.5 <= min(told) < 0.7 and 0.8 < max(told) <= 1.0


def test_position_inside_a_reused_batch_is_restored_exactly():
    """The second use of rooms, colors and faults included, comes again after a restart."""
    changes = dict(reuse=2, recolor=1.0, photographic=1.0, images_per_step=4)
    stream = source(**changes)
    next(stream)
    position = stream.get_state()
    wanted = next(stream)[0]
    other = source(**changes)
    other.set_state(position)
    jax.tree.map(np.testing.assert_array_equal, next(other)[0], wanted)


def test_rooms_are_not_used_more_often_than_now_asked_for(monkeypatch):
    """Where a run used them four times and goes on with twice, the third use is of new rooms."""
    monkeypatch.setattr("data.rooms.stream.sample_batch", made)
    before = source(reuse=2, num_inputs=(4,))
    wanted = [next(before)[1]["ids"] for _ in range(4)]
    longer = source(reuse=4, num_inputs=(4,))
    for _ in range(3):
        next(longer)
    before.set_state(longer.get_state())
    assert [next(before)[1]["ids"] for _ in range(2)] == wanted[2:]


@pytest.mark.parametrize("change", [{"images_per_step": 8}, {"reuse": 2}, {"photographic": 0.5}])
def test_other_sources_refuse_what_only_rooms_have(change):
    """A field must not be set in vain."""
    with pytest.raises(ValueError, match="is for data.source 'rooms', got 'box'"):
        source(source="box", **change)
