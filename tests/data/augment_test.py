"""Crop, resize and jitter: exact on planes, one map for image, depth and intrinsics."""

import dataclasses
import functools

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

from data.augment import Jitter, Window, resample, resample_image
from data.schema import CorruptRecord, decode_image
from data.stored.reader import _resample_fast
from mvdust3r_jax.geometry.camera import project, unproject
from tests.posed_folders import box_scene

SIZE = (32, 32)
IDENTITY = Jitter((0, 1, 2, 3), 1.0, 1.0, 1.0, 0.0)


def plane_depth(intrinsics, size):
    """Depth of a slanted plane n.x = 2 as seen by these intrinsics."""
    v, u = np.meshgrid(*(np.arange(n) for n in size), indexing="ij")
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(intrinsics).T
    return (2 / (rays @ np.array([0.5, -0.3, 1.0]))).astype(np.float32)


@pytest.mark.parametrize("extra_px", [0, 7, 15])
def test_a_plane_stays_exact_through_crop_and_resize(extra_px):
    """Resampled depth is the plane's depth under the new intrinsics: they follow exactly."""
    intrinsics = np.array([[60.0, 0, 33.4], [0, 61, 22.1], [0, 0, 1]])
    depth = plane_depth(intrinsics, (48, 64))
    window = Window.centered(depth.shape, SIZE, intrinsics, extra_px)
    expected = plane_depth(window.intrinsics(intrinsics).astype(np.float64), SIZE)
    # float32 rounding of inverse depths near 0.5 is a few 1e-7.
    np.testing.assert_allclose(resample(depth, window), expected, rtol=3e-6)


@pytest.mark.parametrize("extra_px", [0, 15])
def test_principal_point_becomes_the_center_and_the_window_stays_inside(extra_px):
    """The release's convention (W/2, H/2); no output pixel lies outside the source."""
    intrinsics = np.array([[60.0, 0, 30.3], [0, 61, 25.9], [0, 0, 1]])
    window = Window.centered((48, 64), SIZE, intrinsics, extra_px)
    np.testing.assert_allclose(window.intrinsics(intrinsics)[:2, 2], [16, 16], atol=1e-5)
    half_x, half_y = window.step_x / 2, window.step_y / 2
    assert window.columns()[0] - half_x >= -0.5 - 1e-9
    assert window.columns()[-1] + half_x <= 63.5 + 1e-9
    assert window.rows()[0] - half_y >= -0.5 - 1e-9
    assert window.rows()[-1] + half_y <= 47.5 + 1e-9
    tight = Window.centered((48, 64), SIZE, intrinsics)
    np.testing.assert_allclose(tight.step_x / window.step_x, (32 + extra_px) / 32)


def test_image_and_depth_are_moved_by_the_same_map():
    """A horizontal ramp, resampled as color and as depth, is the source column in both."""
    ramp = np.tile(np.arange(0, 128, 2, dtype=np.uint8), (48, 1))
    intrinsics = np.array([[60.0, 0, 31.0], [0, 61, 23], [0, 0, 1]])
    window = Window.centered(ramp.shape, SIZE, intrinsics)
    color = resample_image(np.repeat(ramp[..., None], 3, axis=-1), window)
    # Inner pixels: Lanczos reproduces ramps away from the border, up to the rounding to uint8.
    expected = np.broadcast_to(2 * window.columns()[4:-4], (24, 24))
    np.testing.assert_allclose(color[4:-4, 4:-4, 0], expected, atol=0.75)


def test_unknown_depth_and_edges_are_never_mixed():
    """Every resampled value is 0 or lies on one of the two surfaces."""
    depth = np.full((40, 40), 1.0, np.float32)
    depth[:, 20:] = 3.0
    depth[10:20, 10:30] = 0
    window = Window.centered(
        (40, 40), (29, 31), np.array([[30.0, 0, 20.2], [0, 30, 19.7], [0, 0, 1]])
    )
    result = resample(depth, window)
    distance = np.abs(result[..., None] - np.array([0.0, 1.0, 3.0], np.float32)).min(axis=-1)
    assert distance.max() < 1e-6
    assert {0.0, 1.0, 3.0} == {round(float(x), 5) for x in np.unique(result)}


def test_principal_point_outside_the_image_is_corrupt():
    """No crop can center it."""
    with pytest.raises(CorruptRecord, match="outside"):
        Window.centered((48, 64), SIZE, np.array([[60.0, 0, 70], [0, 60, 24], [0, 0, 1]]))


def test_unproject_then_project_returns_the_pixel():
    """To 1e-3 px, on augmented depth and intrinsics."""
    scene = box_scene(num_views=1)
    window = Window.centered(scene.size, SIZE, scene.intrinsics, 9)
    intrinsics = jnp.asarray(window.intrinsics(scene.intrinsics))
    depth = jnp.asarray(resample(scene.depth_m[0].astype(np.float32), window))
    pixels = np.asarray(project(unproject(depth, intrinsics), intrinsics))
    v, u = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
    np.testing.assert_allclose(pixels, np.stack([u, v], axis=-1), atol=1e-3)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("size", [(96, 128), (97, 129)], ids=["even", "odd"])
def test_the_fast_way_shows_the_same_picture_in_the_same_place(suffix, size):
    """A smooth image, perhaps decoded at half its size, is the image resampled as a whole."""
    v, u = np.meshgrid(*map(np.arange, size), indexing="ij")
    smooth = np.stack([127 + 100 * np.sin(u / 9), 127 + 100 * np.cos(v / 7), u + v], axis=-1)
    data = cv2.imencode(suffix, smooth.astype(np.uint8))[1].tobytes()
    intrinsics = np.array([[60.0, 0, size[1] / 2 - 2], [0, 61, size[0] / 2 + 1], [0, 0, 1]])
    window = Window.centered(size, SIZE, intrinsics, 9)
    assert min(window.step_x, window.step_y) >= 2
    whole = resample_image(decode_image(data, ""), window).astype(float)
    fast = _resample_fast({"image": data}, "", size, window)
    # Steps between pixels are up to 25 levels here; half a pixel would be a difference of 12.
    assert np.abs(whole - fast)[2:-2, 2:-2].max() < 4


def _image(low=0, high=256):
    return np.random.default_rng(0).integers(low, high, (8, 8, 3)).astype(np.uint8)


def test_neutral_jitter_changes_nothing():
    """Factors 1 and hue 0 in any order; HSV in 8 bits costs a few levels."""
    for order in ((0, 1, 2, 3), (3, 2, 1, 0)):
        same = dataclasses.replace(IDENTITY, order=order)(_image())
        np.testing.assert_allclose(same.astype(float), _image(), atol=8)


def test_each_jitter_does_what_its_name_says():
    """Brightness scales, contrast 0 leaves the mean gray, saturation 0 gray, hue 1/3 turns RGB."""
    image, only = _image(50, 180), dataclasses.replace
    gray = image @ np.array([0.299, 0.587, 0.114])
    # One level of rounding in every step before the last.
    same = functools.partial(np.testing.assert_allclose, atol=5)
    same(only(IDENTITY, brightness=0.5)(image).astype(float), image / 2)
    same(only(IDENTITY, contrast=0.0)(image).astype(float), gray.mean())
    colorless = only(IDENTITY, saturation=0.0)(image)
    same(colorless.astype(float), np.repeat(gray[..., None], 3, axis=-1))
    turned = only(IDENTITY, hue_turns=1 / 3)(image)
    same(turned.astype(float), image[..., [2, 0, 1]])
    brighter = only(IDENTITY, brightness=1.5, order=(3, 2, 1, 0))(image)
    assert brighter.max() == 255 and (brighter >= image - 5.0).all()


def test_drawn_factors_stay_in_their_ranges():
    """Factors in [0.5, 1.5], hue in [-0.1, 0.1], every order of the four occurs."""
    rng = np.random.default_rng(0)
    draws = [Jitter.draw(rng) for _ in range(300)]
    factors = np.array([[d.brightness, d.contrast, d.saturation] for d in draws])
    assert 0.5 <= factors.min() < 0.52 and 1.48 < factors.max() <= 1.5
    hues = np.array([d.hue_turns for d in draws])
    assert -0.1 <= hues.min() < -0.09 and 0.09 < hues.max() <= 0.1
    assert len({d.order for d in draws}) == 24
