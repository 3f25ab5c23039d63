"""The box source: consistent geometry, positions that can be gone back to, equal shapes."""

import jax
import numpy as np

from data.box import BoxSource
from data.training_batches import make_source
from mvdust3r_jax.geometry.truth import true_pointmaps

SETTINGS = dict(num_inputs=(2, 3), num_targets=1, height=8, width=10, seed=5)


def test_all_views_see_one_box():
    """Every point lies on a wall: its largest coordinate, in units of the half size, is 1."""
    batch, _ = next(BoxSource(batch_size=2, **SETTINGS))
    world_from_ref = batch.world_from_cam[:, 0]
    points = np.asarray(true_pointmaps(jax.device_put(batch), 1)[:, 0])
    world = np.einsum("bij,bshwj->bshwi", world_from_ref[:, :3, :3], points)
    world += world_from_ref[:, None, None, None, :3, 3]
    bounds = np.abs(world).max(axis=(1, 2, 3))
    walls = np.abs(np.abs(world) - bounds[:, None, None, None]) < 1e-3
    assert walls.any(-1).mean() > 0.9
    assert np.abs(batch.images).max() <= 1


def test_position_restores_the_same_batches():
    """A position gives exactly the batches that followed it."""
    source = BoxSource(batch_size=2, **SETTINGS)
    next(source)
    state = source.get_state()
    expected = [next(source) for _ in range(3)]
    other = BoxSource(batch_size=2, **SETTINGS)
    other.set_state(state)
    for batch, info in expected:
        again, again_info = next(other)
        jax.tree.map(np.testing.assert_array_equal, batch, again)
        assert info == again_info


def test_processes_agree_on_the_shape_and_differ_in_content():
    """All processes draw the same number of views at each step, and different samples."""
    place = {"batch_size": 4, "process_count": 2, "split": "train", "baseline": None}
    first, second = (make_source("box", process_index=i, **place, **SETTINGS) for i in range(2))
    for _ in range(5):
        (a, ids_a), (b, ids_b) = next(first), next(second)
        assert a.images.shape == b.images.shape == (2, *a.images.shape[1:])
        assert not np.array_equal(a.images, b.images)
        assert not set(ids_a["ids"]) & set(ids_b["ids"])
