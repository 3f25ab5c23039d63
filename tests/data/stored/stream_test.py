import itertools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.device_prefetch import DevicePrefetch
from data.mixture import MixedIterator
from data.stored.builder import SceneBuilder, write_dataset
from data.stored.schema import CorruptRecord, Frame, Scene, Trajectories, encode_depth, encode_jpeg
from data.stored.stream import (
    DataConfig,
    make_eval_iterator,
    make_train_iterator,
    release_order,
    slot_of_step,
)
from data.training_batches import make_source
from mvdust3r_jax.geometry.camera import depth_to_world, project
from mvdust3r_jax.geometry.transforms import invert_rigid, transform_points
from tests.posed_folders import box_scene

FRAMES, TRAJECTORIES = 12, 10


class Boxes(SceneBuilder, skip_registration=True):
    """Box scenes: 6 inputs, 2 targets of which one needs 4 inputs and one 6."""

    def __init__(self, *, bad=(), **builder_args):
        self._bad = bad
        super().__init__(num_inputs=6, num_targets=2, **builder_args)

    def scene_names(self):
        return {"train": ["0", "1"], "test": ["2"]}

    def load_scene(self, split, name):
        scene = box_scene(num_views=FRAMES, size=(96, 128), seed=int(name))
        rng = np.random.default_rng(int(name))
        rows = np.stack([rng.permutation(FRAMES)[:8] for _ in range(TRAJECTORIES)])
        needs = np.tile([4, 6], (TRAJECTORIES, 1))

        def frame(i):
            if (name, i) in self._bad:
                raise CorruptRecord(f"frame {i} is bad")
            depth = encode_depth(scene.depth_m[i], 1e-4)
            return Frame(f"{i}", scene.jpegs[i], depth, scene.poses[i], scene.intrinsics, 1e-4)

        tables = Trajectories(rows[:, :6].astype(np.int32), rows[:, 6:].astype(np.int32), needs)
        return Scene(name, FRAMES, frame, tables)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("boxes")
    return write_dataset(lambda config: Boxes(data_dir=out, config=config))[0]


def config(folder, **changes):
    settings = dict(
        sources=((str(folder), 1.0),),
        num_inputs=(4,),
        num_targets=1,
        image_size=(32, 32),
        threads=2,
        read_ahead=4,
    )
    return DataConfig(**(settings | changes))


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def assert_equal(one, other):
    for (a, info_a), (b, info_b) in zip(one, other, strict=True):
        assert info_a == info_b
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_batch_has_the_documented_shapes_and_ranges(folder):
    """Inputs, then targets; float32; images in [-1, 1]; ids name data set, scene and trajectory."""
    batch, info = next(make_train_iterator(config(folder), seed=0, batch_size=3))
    assert batch.images.shape == (3, 5, 32, 32, 3)
    assert batch.depth_m.shape == (3, 5, 32, 32)
    assert batch.world_from_cam.shape == (3, 5, 4, 4)
    assert batch.intrinsics.shape == (3, 5, 3, 3)
    assert {x.dtype for x in jax.tree.leaves(batch)} == {np.dtype(np.float32)}
    assert -1 <= batch.images.min() < -0.5 and 0.5 < batch.images.max() <= 1
    assert info["num_targets"] == 1 and info["skipped"] == []
    assert all(i.split("/")[0] == "boxes" and i.split("/")[1] in "01" for i in info["ids"])


def test_the_seed_decides_everything_and_threads_nothing(folder):
    """Equal seeds and other thread counts give equal batches; another seed others."""
    one = take(make_train_iterator(config(folder), seed=5, batch_size=2), 4)
    same = take(make_train_iterator(config(folder, threads=1), seed=5, batch_size=2), 4)
    other = take(make_train_iterator(config(folder), seed=6, batch_size=2), 4)
    assert_equal(one, same)
    assert [info["ids"] for _, info in one] != [info["ids"] for _, info in other]


def test_position_is_restored_exactly_in_the_middle_of_an_epoch(folder):
    """Through JSON, in a new iterator and in the same one; also with several view counts."""
    cfg = config(folder, num_inputs=(4, 6), num_targets=1)
    iterator = make_train_iterator(cfg, seed=1, batch_size=3)
    take(iterator, 5)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = take(iterator, 4)
    resumed = make_train_iterator(cfg, seed=1, batch_size=3)
    resumed.set_state(state)
    assert_equal(take(resumed, 4), expected)
    iterator.set_state(state)
    assert_equal(take(iterator, 4), expected)


def test_position_of_another_stream_is_refused(folder):
    """A changed seed or other numbers of views would silently repeat or lose samples."""
    state = make_train_iterator(config(folder), seed=1, batch_size=3).get_state()
    for cfg, seed in ((config(folder), 2), (config(folder, num_inputs=(5,)), 1)):
        with pytest.raises(ValueError, match="other sources"):
            make_train_iterator(cfg, seed=seed, batch_size=3).set_state(state)


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
    """Also after a resume on another number: images, ids, and how many views each batch has."""
    settings = dict(height=16, width=16, baseline=(0.5, 1.5))
    if source == "records":
        settings |= dict(mixture=((str(folder), 1.0),), threads=1, read_ahead=1)
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
        jax.tree.map(np.testing.assert_array_equal, a, b)


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


def test_position_goes_on_where_a_data_set_was_moved_to(folder, tmp_path, monkeypatch):
    """The same set below another folder; one of another name or length is refused."""
    iterator = make_train_iterator(config(folder), seed=1, batch_size=3)
    take(iterator, 2)
    state = iterator.get_state()
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / folder.name)
    resumed = make_train_iterator(config(moved), seed=1, batch_size=3)
    resumed.set_state(state)
    assert_equal(take(resumed, 3), take(iterator, 3))
    renamed = shutil.copytree(folder, tmp_path / "renamed")
    with pytest.raises(ValueError, match="other sources"):
        make_train_iterator(config(renamed), seed=1, batch_size=3).set_state(state)
    monkeypatch.setattr(
        "data.stored.stream.TrajectorySet.__len__", lambda self: len(self.inputs) - 1
    )
    with pytest.raises(ValueError, match="other sources"):
        make_train_iterator(config(moved), seed=1, batch_size=3).set_state(state)


def test_every_trajectory_once_before_any_twice(folder):
    """An epoch over one stream is a permutation, and the next one another."""
    batches = take(make_train_iterator(config(folder), seed=0, batch_size=4), 10)
    ids = [i for _, info in batches for i in info["ids"]]
    assert len(set(ids[:20])) == 20 == 2 * TRAJECTORIES
    assert sorted(ids[:20]) == sorted(ids[20:]) and ids[:20] != ids[20:]


def test_processes_share_an_epoch_without_overlap(folder):
    """Two processes see disjoint halves, the same numbers of views at every step."""
    cfg = config(folder, num_inputs=(4, 6))
    streams = [
        take(make_train_iterator(cfg, seed=0, batch_size=2, process_index=p, process_count=2), 10)
        for p in range(2)
    ]
    shapes = [[batch.images.shape for batch, _ in stream] for stream in streams]
    assert shapes[0] == shapes[1]
    # Five batches of each view count, four samples of both processes in each: one epoch.
    of_six = [
        i
        for stream in streams
        for batch, info in stream
        if batch.images.shape[1] == 7
        for i in info["ids"]
    ]
    assert len(set(of_six)) == 20


def test_view_counts_come_equally_often_and_in_random_order():
    """Blocks of all entries; a jitted step sees only these shapes."""
    slots = [slot_of_step(3, step, 4) for step in range(400)]
    assert all(sorted(slots[i : i + 4]) == [0, 1, 2, 3] for i in range(0, 400, 4))
    assert len({tuple(slots[i : i + 4]) for i in range(0, 400, 4)}) > 12


def test_targets_are_covered_by_the_inputs_in_use(folder):
    """With four inputs only the first target qualifies; two targets need all six inputs."""
    make_train_iterator(config(folder, num_inputs=(6,), num_targets=2), seed=0, batch_size=1)
    with pytest.raises(ValueError, match="none of 20 trajectories has 4 inputs that cover 2"):
        make_train_iterator(config(folder, num_targets=2), seed=0, batch_size=1)
    with pytest.raises(ValueError, match="none of 20 trajectories has 7 inputs"):
        make_train_iterator(config(folder, num_inputs=(7,)), seed=0, batch_size=1)


def test_mixture_keeps_its_weights(folder, tmp_path):
    """Of two data sets with weights 1 and 3, a quarter and three quarters of the samples."""
    second = tmp_path / "second"
    shutil.copytree(folder, second)
    cfg = config(folder, sources=((str(folder), 1.0), (str(second), 3.0)))
    batches = take(make_train_iterator(cfg, seed=0, batch_size=4), 10)
    names = [i.split("/")[0] for _, info in batches for i in info["ids"]]
    assert names.count("second") == 30


def test_views_are_shuffled_in_training_and_ordered_in_evaluation(folder):
    """Training: a permutation of the stored inputs; targets stay behind."""
    cfg = config(folder, num_inputs=(6,), num_targets=1, augment=False, split="test")
    shuffled = take(make_train_iterator(cfg, seed=0, batch_size=1), TRAJECTORIES)
    plain = config(folder, num_inputs=(6,), augment=False, shuffle_views=False, split="test")
    ordered = take(make_train_iterator(plain, seed=0, batch_size=1), TRAJECTORIES)
    moved = 0
    for (a, info_a), (b, info_b) in zip(shuffled, ordered, strict=True):
        assert info_a["ids"] == info_b["ids"]
        rows = [x.world_from_cam[0, :6].reshape(6, 16) for x in (a, b)]
        moved += not np.array_equal(*rows)
        np.testing.assert_array_equal(*(row[np.lexsort(row.T)] for row in rows))
    assert moved > 5


def test_evaluation_order_spreads_the_references():
    """Section 7 of the published facts: fixed swaps below 12 views, quarters from 12 on."""
    np.testing.assert_array_equal(release_order(4), [0, 3, 2, 1])
    np.testing.assert_array_equal(release_order(8), [0, 3, 6, 1, 4, 5, 2, 7])
    order = release_order(12)
    np.testing.assert_array_equal(order[:4], [0, 4, 7, 10])
    np.testing.assert_array_equal(np.sort(order), np.arange(12))


def test_evaluation_is_finite_complete_and_repeatable(folder):
    """Every eligible trajectory once, in stored order, the rest in a smaller batch."""
    cfg = config(folder, split="test")
    one, two = (list(make_eval_iterator(cfg, 4, 1, 4)) for _ in range(2))
    assert_equal(one, two)
    assert [len(info["ids"]) for _, info in one] == [4, 4, 2]
    numbers = [int(i.rpartition("/")[2]) for _, info in one for i in info["ids"]]
    assert numbers == list(range(TRAJECTORIES))
    halves = [
        list(make_eval_iterator(cfg, 4, 1, 4, process_index=p, process_count=2)) for p in range(2)
    ]
    seen = [i for half in halves for _, info in half for i in info["ids"]]
    assert sorted(seen) == sorted(i for _, info in one for i in info["ids"])


def test_corrupt_records_are_passed_over_counted_and_reported(tmp_path):
    """Training replaces the sample and goes on; evaluation leaves it out; both say which."""
    bad = {("0", 3), ("0", 5), ("2", 1)}
    place, problems = write_dataset(lambda name: Boxes(bad=bad, data_dir=tmp_path, config=name))
    assert len(problems) == 3
    iterator = make_train_iterator(config(place), seed=0, batch_size=4)
    batches = take(iterator, 10)
    reported = [line for _, info in batches for line in info["skipped"]]
    assert reported and iterator.skipped == len(reported)
    assert all("unreadable" in line for line in reported)
    evaluated = list(make_eval_iterator(config(place, split="test"), 4, 1, 4))
    kept = sum(len(info["ids"]) for _, info in evaluated)
    lost = sum(len(info["skipped"]) for _, info in evaluated)
    assert lost > 0 and kept + lost == TRAJECTORIES


def test_a_data_set_of_corrupt_records_ends_with_its_reason(tmp_path):
    """Endless replacement would look like a hang."""
    everything = {(str(s), i) for s in range(3) for i in range(FRAMES)}
    place, _ = write_dataset(lambda name: Boxes(bad=everything, data_dir=tmp_path, config=name))
    with pytest.raises(CorruptRecord, match="50 corrupt samples in a row"):
        next(make_train_iterator(config(place), seed=0, batch_size=1))


@pytest.mark.parametrize("augment", [False, True])
def test_depth_carried_into_another_view_agrees_with_its_depth(folder, augment):
    """Stored poses and intrinsics hold, before and after augmentation: 2e-4 m (0.1 mm steps)."""
    cfg = config(folder, augment=augment, image_size=(64, 64))
    batch, _ = next(make_train_iterator(cfg, seed=0, batch_size=4))
    world = depth_to_world(
        *map(jnp.asarray, (batch.depth_m, batch.intrinsics, batch.world_from_cam))
    )
    errors = []
    for sample, (a, b) in itertools.product(range(4), [(0, 1), (1, 2), (2, 4), (3, 0)]):
        cam_from_world = invert_rigid(jnp.asarray(batch.world_from_cam[sample, b]))
        carried = transform_points(cam_from_world, world[sample, a])
        errors.append(_depth_errors(carried, batch.depth_m[sample, b], batch.intrinsics[sample, b]))
    errors = np.concatenate(errors)
    assert len(errors) > 1000
    assert np.median(errors) < 2e-4


def _depth_errors(points, depth, intrinsics):
    """|z - depth| where the point falls inside the image and on the visible surface."""
    pixels = np.asarray(project(points, jnp.asarray(intrinsics))).reshape(-1, 2)
    z = np.asarray(points[..., 2]).ravel()
    inside = (
        (z > 0.1)
        & (pixels > 0).all(axis=1)
        & (pixels < np.array(depth.shape)[::-1] - 1.01).all(axis=1)
    )
    pixels, z = pixels[inside], z[inside]
    low = np.floor(pixels).astype(int)
    fx, fy = (pixels - low).T
    x, y = low.T
    inverse = 1 / depth
    top = inverse[y, x] * (1 - fx) + inverse[y, x + 1] * fx
    bottom = inverse[y + 1, x] * (1 - fx) + inverse[y + 1, x + 1] * fx
    error = np.abs(z - 1 / (top * (1 - fy) + bottom * fy))
    return error[error < 0.05 * z]


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
    monkeypatch.setattr(
        "data.stored.stream.make_train_iterator", lambda cfg, **_: opened.append(cfg)
    )
    settings = dict(
        batch_size=2, process_index=0, process_count=1, seed=0, height=32, width=32, split="train"
    ) | dict(num_inputs=(4,), num_targets=1, baseline=(1.0, 1.0), threads=7, read_ahead=3)
    make_source("records", mixture=(("unread", 1.0),), **settings)
    assert (opened[0].threads, opened[0].read_ahead) == (7, 3)
    for other in ("box", "rooms"):
        assert make_source(other, mixture=(), **settings).get_state()["next"] == 0
    assert len(opened) == 1


def test_black_image_and_jpeg_bytes_are_deterministic():
    """Encoders give the same bytes every time, which byte-identical rebuilds rest on."""
    image = np.zeros((8, 8, 3), np.uint8)
    assert encode_jpeg(image) == encode_jpeg(image)
