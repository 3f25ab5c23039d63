"""The rasterizer's interface: capacity, scenes as a batch axis, cameras, bad input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvdust3r_jax.splat import capacity_for, default_capacity, rasterize
from mvdust3r_jax.splat.project import View
from mvdust3r_jax.splat.tiles import (
    SATURATED,
    chunk_size,
    depth_order,
    saturating_cumsum,
    sum_by_rows,
)

WIDTH, HEIGHT = 40, 24
VIEWMATS = jnp.eye(4)[None]
KS = jnp.array([[[30.0, 0, 20], [0, 30, 12], [0, 0, 1]]])


def _scene(seed, count=32, scale=0.2):
    rng = np.random.default_rng(seed)
    arrays = (
        rng.normal(size=(count, 3)) * 0.5 + [0, 0, 3],
        rng.normal(size=(count, 4)),
        scale * rng.uniform(size=(count, 3)),
        rng.uniform(0.2, 0.9, count),
        rng.uniform(size=(count, 3)),
    )
    return tuple(jnp.asarray(a, jnp.float32) for a in arrays)


def _rasterize(*arrays, **options):
    return rasterize(*arrays, VIEWMATS, KS, width=WIDTH, height=HEIGHT, **options)


def _draw(*arrays, **options):
    return jax.jit(partial(_rasterize, **options))(*arrays)


def test_vmap_over_scenes_equals_a_loop():
    """Images and gradients of a batch of scenes are those of each scene alone."""
    scenes = [_scene(seed) for seed in range(2)]
    batch = jax.tree.map(lambda *a: np.stack(a), *scenes)
    run = jax.value_and_grad(lambda *a: jnp.sum(_rasterize(*a)[0] ** 2), argnums=(0, 2, 3))
    values, gradients = jax.device_get(jax.jit(jax.vmap(run))(*batch))
    single = jax.jit(run)
    for i, scene in enumerate(scenes):
        value, gradient = single(*scene)
        np.testing.assert_allclose(values[i], value, rtol=1e-5)
        for got, want in zip(gradients, gradient, strict=True):
            np.testing.assert_allclose(got[i], want, rtol=1e-4, atol=1e-5)


def test_overflow_is_counted_and_the_nearest_are_kept():
    """What exceeds the capacity is reported, exactly; the near splats are still drawn."""
    scene = _scene(0, count=64)
    capacity = 128
    image, _, info = _draw(*scene, capacity=capacity)
    assert int(info.overflow[0]) == int(info.intersections[0]) - capacity > 0
    exact, _, exact_info = _draw(*scene)
    assert int(exact_info.overflow[0]) == 0
    assert np.abs(np.asarray(image) - np.asarray(exact)).max() > 1e-3
    enough = capacity_for(*scene[:4], VIEWMATS, KS, WIDTH, HEIGHT, margin=1.0)
    assert enough == int(exact_info.intersections[0])
    image, _, info = _draw(*scene, capacity=enough)
    assert int(info.overflow[0]) == 0
    np.testing.assert_array_equal(image, exact)


def test_pairs_beyond_int32_are_counted_as_overflow():
    """A count that would wrap around stops at 2^30 - 1 instead of turning negative."""
    count, size = 1 << 13, 2048
    means, quats = np.tile([0.0, 0, 1], (count, 1)), np.tile([1.0, 0, 0, 0], (count, 1))
    Ks = np.float32([[[1000.0, 0, size / 2], [0, 1000, size / 2], [0, 0, 1]]])
    scales, one = np.full((count, 3), 10.0), np.ones(count)
    most = capacity_for(means, quats, scales, one, VIEWMATS, Ks, size, size, margin=1.0)
    assert most == (1 << 30) - 1


def test_no_gaussians_gives_the_background():
    """Zero Gaussians: background everywhere, alpha 0."""
    empty = tuple(np.asarray(a)[:0] for a in _scene(0))
    image, alpha, info = _draw(*empty, backgrounds=np.float32([[0.1, 0.2, 0.3]]))
    np.testing.assert_allclose(image, np.broadcast_to(np.float32([0.1, 0.2, 0.3]), image.shape))
    assert (np.asarray(alpha) == 0).all() and info.radii.shape == (1, 0)


def test_depth_order_is_stable_and_puts_culled_last():
    """Ties keep the order of their indices; infinity is last."""
    depths = jnp.array([2.0, jnp.inf, 0.0, 2.0, -0.0, 1.0])
    np.testing.assert_array_equal(jax.jit(depth_order)(depths), [2, 4, 5, 0, 3, 1])


def test_chunk_keys_fit_32_bits():
    """Block number and place in the chunk share one unsigned 32-bit key, at any image size."""
    for size in (1, 224, 1024, 4096):
        view = View(size, size, 0.1, 10.0, 0.1, None)
        chunk = chunk_size(view, 1 << 22)
        blocks = (-(-size // 4)) ** 2
        assert blocks * chunk + chunk - 1 < 1 << 32 and chunk >= 1 << 11


def test_default_capacity_covers_pixel_aligned_scenes():
    """Eight intersections a Gaussian, never less than 2^18 nor more than there can be."""
    assert default_capacity(401_408, 224, 224) == 8 * 401_408
    assert default_capacity(50_176, 224, 224) == 8 * 50_176
    assert default_capacity(10_000, 224, 224) == 1 << 18
    assert default_capacity(10, 16, 16) == 160


@pytest.mark.parametrize(
    ("position", "shape", "message"),
    [
        (0, (32, 2), r"means: expected shape \(32, 3\).*got \(32, 2\)"),
        (1, (31, 4), r"quats: expected shape \(32, 4\).*got \(31, 4\)"),
        (3, (32, 1), r"opacities: expected shape \(32,\).*got \(32, 1\)"),
        (4, (32, 4), r"colors: expected shape \(32, 3\).*got \(32, 4\)"),
    ],
)
def test_wrong_shapes_are_named(position, shape, message):
    """The error names the array, what was expected and what came."""
    arrays = list(_scene(0))
    arrays[position] = jnp.zeros(shape)
    with pytest.raises(ValueError, match=message):
        _draw(*arrays)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(sh_degree=1), r"colors: expected shape \(32, K >= 4, 3\)"),
        (dict(sh_degree=4), "sh_degree: expected 0, 1, 2, 3 or None, got 4"),
        (dict(backgrounds=jnp.zeros((2, 3))), r"backgrounds: expected shape \(1, 3\)"),
        (dict(near_plane=-1.0), "near_plane, far_plane: expected 0 <= near < far"),
        (dict(eps2d=-0.1), "eps2d: expected a finite number >= 0, got -0.1"),
        (dict(capacity=0), "capacity: expected at least 1, got 0"),
    ],
)
def test_wrong_options_are_named(options, message):
    """So does the error for options that do not fit."""
    with pytest.raises(ValueError, match=message):
        _draw(*_scene(0), **options)


def test_empty_image_is_an_error():
    """A size below one pixel is no image."""
    with pytest.raises(ValueError, match="width, height: expected a positive size, got 0, 24"):
        rasterize(*_scene(0), VIEWMATS, KS, 0, HEIGHT)


@pytest.mark.parametrize("count", [512, 1500])
def test_running_sums_of_accelerators_equal_those_of_cpus(count):
    """Both ways give NumPy's sums, cut at 2^30 - 1, for lengths around a row's."""
    counts = np.random.default_rng(0).integers(0, 2**22, count).astype(np.int32)
    counts[count // 2] = SATURATED if count == 1500 else 7
    expected = np.minimum(np.cumsum(counts.astype(np.int64)), SATURATED)
    np.testing.assert_array_equal(jax.jit(saturating_cumsum)(counts), expected)
    np.testing.assert_array_equal(jax.jit(sum_by_rows)(counts), expected)


def test_double_precision_is_taken_as_float32():
    """Also where JAX uses float64; gradients have it; sizes may be integers of NumPy."""
    single = _scene(0)
    expected = rasterize(*single, VIEWMATS, KS, WIDTH, HEIGHT)[0]
    size = np.int64(WIDTH), np.int64(HEIGHT)
    with jax.enable_x64(True):
        double = [np.asarray(a, np.float64) for a in single]
        cameras = np.asarray(VIEWMATS, np.float64), np.asarray(KS, np.float64)
        image, pull_back = jax.vjp(lambda *a: rasterize(*a, *cameras, *size)[0], *double)
        gradients = pull_back(jnp.ones_like(image))
        capacity = capacity_for(*double[:4], *cameras, *size)
    assert image.dtype == np.float32 and {g.dtype for g in gradients} == {np.dtype(np.float64)}
    np.testing.assert_array_equal(image, expected)
    assert capacity == capacity_for(*single[:4], VIEWMATS, KS, WIDTH, HEIGHT)


def test_lists_and_whole_numbers_of_any_kind_are_taken():
    """As NumPy's functions would; a capacity of half an intersection is no number of them."""
    arrays = [*_scene(0), VIEWMATS, KS]
    expected = rasterize(*arrays, WIDTH, HEIGHT, capacity=4000)[0]
    listed = [np.asarray(a).tolist() for a in arrays]
    image = rasterize(*listed, WIDTH, HEIGHT, capacity=np.int64(4000))[0]
    np.testing.assert_allclose(image, expected, atol=1e-6)
    with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
        rasterize(*arrays, WIDTH, HEIGHT, capacity=1e4)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_taken_as_float32(dtype):
    """The image of the rounded arrays, gradients in their own precision, and the same capacity."""
    half = [np.asarray(a).astype(dtype) for a in _scene(0)]
    full = [a.astype(np.float32) for a in half]
    cameras = np.asarray(VIEWMATS).astype(dtype), np.asarray(KS).astype(dtype)
    image = rasterize(*half, *cameras, WIDTH, HEIGHT)[0]
    assert image.dtype == jnp.float32
    np.testing.assert_array_equal(image, _rasterize(*full)[0])
    grad = jax.grad(lambda colors: _rasterize(*half[:4], colors)[0].sum())(half[4])
    assert grad.dtype == dtype and grad.any()
    sizes = [capacity_for(*a[:4], VIEWMATS, KS, WIDTH, HEIGHT) for a in (half, full)]
    assert sizes[0] == sizes[1]
