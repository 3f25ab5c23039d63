"""What a stream of stored samples holds: shapes, order of views, geometry; corrupt records."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.mixture import make_train_iterator
from data.schema import CorruptRecord, encode_jpeg
from data.stored.reader import TrajectorySet, decode_views
from data.stored.write import write_dataset
from mvdust3r_jax.geometry.camera import depth_to_world, project
from mvdust3r_jax.geometry.transforms import invert_rigid, transform_points
from tests.data.stored.boxes_set import FRAMES, TRAJECTORIES, Boxes, config, take


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


def test_a_trajectory_looks_different_each_time(folder):
    """In the next epoch its crops, the order of its views and its render-only view are others."""
    cfg = config(folder, num_inputs=(6,), split="test", image_size=(8, 8))
    seen = {}
    for batch, info in take(make_train_iterator(cfg, seed=0, batch_size=4), TRAJECTORIES // 2):
        poses = batch.world_from_cam.reshape(4, 7, 16)
        drawn = zip(batch.intrinsics[..., 0, 0], poses[:, :6], poses[:, 6], strict=True)
        for name, *sample in zip(info["ids"], drawn, strict=True):
            seen.setdefault(name, []).extend(sample)
    changed = [
        [not np.array_equal(*x) for x in zip(*twice, strict=True)] for twice in seen.values()
    ]
    crops, orders, targets = np.sum(changed, axis=0)
    # There are two targets to draw from.
    assert len(seen) == crops == TRAJECTORIES and orders > 5 and targets > 0


def test_colors_vary_by_view_and_geometry_does_not(folder):
    """Each view is brightened or darkened on its own; crops, depth and cameras are the same."""
    stored = TrajectorySet(folder, "test")
    frames = stored.read(stored.records(0, 6, 1))
    varied, plain = (
        decode_views(frames, (32, 32), rng=np.random.default_rng(0), **strength)
        for strength in ({}, {"color": 0.0, "hue": 0.0})
    )
    change = (varied.images - plain.images).mean(axis=(1, 2, 3))
    assert change.min() < -0.1 and change.max() > 0.1
    for name in ("depth_m", "world_from_cam", "intrinsics"):
        np.testing.assert_array_equal(getattr(varied, name), getattr(plain, name))


def test_corrupt_records_are_passed_over_counted_and_reported(tmp_path):
    """The sample is replaced by another, and told."""
    bad = {("0", 3), ("0", 5), ("2", 1)}
    place, problems = write_dataset(lambda name: Boxes(bad=bad, data_dir=tmp_path, config=name))
    assert len(problems) == 3
    iterator = make_train_iterator(config(place), seed=0, batch_size=4)
    batches = take(iterator, 10)
    reported = [line for _, info in batches for line in info["skipped"]]
    assert reported and iterator.skipped == len(reported)
    assert all("unreadable" in line for line in reported)


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


def test_black_image_and_jpeg_bytes_are_deterministic():
    """Encoders give the same bytes every time, which byte-identical rebuilds rest on."""
    image = np.zeros((8, 8, 3), np.uint8)
    assert encode_jpeg(image) == encode_jpeg(image)
