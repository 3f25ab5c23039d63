"""The chamfer distance: blocks, tree and cap agree; what is empty or not finite."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvdust3r_jax.metrics import chamfer
from mvdust3r_jax.metrics import pointmaps as metrics
from tests.compiled import compiled, normal

chamfer_distance = compiled(chamfer.chamfer_distance)
GOLDEN = Path(__file__).parents[1] / "golden" / "losses"


def test_chamfer_matches_golden():
    """Shifted, single-point and empty clouds; empty is NaN."""
    golden = np.load(GOLDEN / "chamfer.npz")
    mask = golden["mask"]
    found = np.asarray(chamfer_distance(golden["pts1"], mask, golden["pts2"], mask))
    np.testing.assert_allclose(found, golden["cd_raw"], rtol=1e-5)
    capped = np.where(np.isnan(found), found, np.minimum(found, metrics.ERROR_CAP))
    np.testing.assert_allclose(capped, golden["cd_clipped"], rtol=1e-5)


def test_chamfer_blocks_agree_with_kdtree():
    """Several uneven blocks give the same nearest neighbors as the KD-tree."""
    a, b = normal(0, 5000, 3), normal(1, 3001, 3)
    blocked = chamfer_distance(a, np.ones(5000, bool), b, np.ones(3001, bool))
    tree = chamfer.chamfer_distance_kdtree(np.asarray(a), np.asarray(b))
    np.testing.assert_allclose(blocked, tree, rtol=1e-5)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_prediction_that_is_not_finite_is_infinitely_far(wrong):
    """On the devices as by the KD-tree; not where it is masked, nor from a truth that is empty."""
    truth, known = np.arange(12, dtype=np.float32).reshape(4, 3), np.ones(4, bool)
    broken = truth.copy()
    broken[1, 2] = wrong
    assert chamfer_distance(broken, known, truth, known) == np.inf
    assert chamfer.chamfer_distance_kdtree(broken, truth) == np.inf
    assert chamfer_distance(broken, np.arange(4) != 1, truth, known) == 27 / 4
    assert np.isnan(chamfer_distance(broken, known, truth, ~known))


@pytest.mark.parametrize(("count", "true_count"), [(0, 4), (4, 0), (0, 0)])
def test_a_cloud_without_points_has_no_distance(count, true_count):
    """NaN as for one whose points are all masked, over a batch."""
    ones = np.ones((2, 4, 3), np.float32)
    clouds = [(ones[:, :n], ones[:, :n, 0] > 0) for n in (count, true_count)]
    assert np.isnan(chamfer_distance(*clouds[0], *clouds[1])).tolist() == [True, True]


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5, 4.0])
def test_capped_chamfer_is_the_capped_distance(shift):
    """Clouds apart enough are not searched, and the answer is the same; the bound is below."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(200, 3)), shift + rng.normal(size=(150, 3))
    distance = chamfer.chamfer_distance_kdtree(a, b)
    assert chamfer.box_bound(a, b) <= distance
    assert chamfer.capped_chamfer_kdtree(a, b, 10.0) == min(distance, 10.0)
    assert np.isnan(chamfer.capped_chamfer_kdtree(a, b[:0], 10.0))
    assert chamfer.capped_chamfer_kdtree(a + np.inf, b, 10.0) == 10.0


def test_chamfer_gradients_are_those_of_the_nearest_points(monkeypatch):
    """Blocks that are filled up and masked points change nothing; what is masked has gradient 0."""
    monkeypatch.setattr(chamfer, "_BLOCK", 8)
    jax.clear_caches()
    a, b = normal(0, 21, 3), normal(1, 21, 3)
    known, true_known = np.arange(21) % 5 != 0, np.arange(21) % 4 != 0

    def plain(a, b):
        squared = jnp.sum((a[known][:, None] - b[true_known][None]) ** 2, axis=-1)
        return squared.min(axis=1).mean() + squared.min(axis=0).mean()

    def blocked(a, b):
        return chamfer.chamfer_distance(a, jnp.asarray(known), b, jnp.asarray(true_known))

    wanted, found = (
        jax.device_get(jax.jit(jax.grad(f, argnums=(0, 1)))(a, b)) for f in (plain, blocked)
    )
    for x, y in zip(wanted, found, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)
    assert not found[0][~known].any() and not found[1][~true_known].any()


def test_chamfer_of_nothing_has_gradient_zero():
    """Among samples with a distance, where the others are left out of a mean."""
    clouds = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    known = np.array([[True] * 4, [False] * 4])

    def mean(clouds):
        return jnp.nanmean(chamfer_distance(clouds, known, 2 * clouds + 1, known))

    gradient = np.asarray(jax.jit(jax.grad(mean))(clouds))
    assert np.isfinite(gradient).all() and gradient[0].any() and not gradient[1].any()
