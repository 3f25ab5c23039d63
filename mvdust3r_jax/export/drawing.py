"""Pictures of a scene for any cameras, drawn from its Gaussians by this package's rasterizer.

On white, as in training.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from mvdust3r_jax import allotted
from mvdust3r_jax.export.gaussians import GaussianCloud, gaussian_cloud
from mvdust3r_jax.export.posed_views import invert_rigid
from mvdust3r_jax.geometry.pixels import image_middle, resized_intrinsics
from mvdust3r_jax.splat import capacity_for, rasterize
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# Longest side of a frame in pixels: 480 lines of an image of 4:3.
VIDEO_PX = 640
# Frames of one call of the rasterizer: as many as have so many pixels, and at most these.
_PIXELS_AT_ONCE, _MOST_AT_ONCE = 1 << 19, 32
# Calls at once, each with lists and frames of its own: no more, however many cores there are.
_MOST_CALLS = 8


def cameras_at_once(height: int, width: int) -> int:
    """Frames of one call: small ones take longer to call for than to draw."""
    return max(1, min(_MOST_AT_ONCE, _PIXELS_AT_ONCE // (height * width)))


def calls_at_once() -> int:
    """One for each core of a CPU: a frame is drawn in steps too small to be shared by cores.

    On two cores two frames at a time take a third of what they take one after another. An
    accelerator gets the next call while the last one's frames are used.
    """
    if jax.default_backend() != "cpu":
        return 2
    return min(allotted.cores(), _MOST_CALLS)


def _called_at_once(function: Callable, each: Iterable[tuple], at_once: int) -> Iterator:
    """``function(*arguments)`` in order, computed by threads while earlier results are used."""
    left = iter(each)
    with ThreadPoolExecutor(at_once) as threads:
        called = (threads.submit(function, *arguments) for arguments in left)
        running = deque(itertools.islice(called, at_once))
        while running:
            result = running.popleft().result()
            running.extend(itertools.islice(called, 1))
            yield result


@partial(jax.jit, static_argnames=("width", "height", "sh_degree", "capacity"))
def _draw(arrays, viewmats, intrinsics, *, width, height, sh_degree, capacity):
    """Images [C, H, W, 3] in [0, 1] of a few cameras, and the most that did not fit."""
    image, _, info = rasterize(
        *arrays,
        viewmats,
        intrinsics,
        width,
        height,
        backgrounds=jnp.ones((len(viewmats), 3)),
        sh_degree=sh_degree,
        capacity=capacity,
    )
    return jnp.clip(image, 0, 1), info.overflow.max()


def _in_parts(each: np.ndarray, count: int) -> list[np.ndarray]:
    """[n, ...] in parts of ``count``, the last filled up with its last one."""
    missing = -len(each) % count
    filled = np.concatenate([each, np.repeat(each[-1:], missing, axis=0)])
    return np.split(filled, len(filled) // count) if len(filled) else []


def render(
    cloud: GaussianCloud,
    world_from_cam: np.ndarray,
    intrinsics: np.ndarray,
    height: int,
    width: int,
) -> Iterator[np.ndarray]:
    """Images [H, W, 3] in [0, 1], one per pose of ``world_from_cam`` [n, 4, 4].

    intrinsics: [3, 3] or [n, 3, 3] of the ``H x W`` image, the first pixel's center at (0, 0). The
    tile lists have room for the fullest frame: every frame is exact, and one program draws all of
    them. While a part of the frames is used, the next ones are drawn.
    """
    arrays = (cloud.means, cloud.rotations, cloud.scales, cloud.opacities, cloud.sh)
    arrays = [jnp.asarray(array, jnp.float32) for array in arrays]
    cam_from_world = np.asarray(invert_rigid(world_from_cam), np.float32)
    count = min(cameras_at_once(height, width), max(len(cam_from_world), 1))
    # gsplat's convention: the first pixel's center is (0.5, 0.5).
    shifted = np.array(np.broadcast_to(intrinsics, (len(cam_from_world), 3, 3)), np.float32)
    shifted[:, :2, 2] += 0.5
    parts = list(zip(_in_parts(cam_from_world, count), _in_parts(shifted, count), strict=True))
    fullest = max(
        (capacity_for(*arrays[:4], *part, width, height, margin=1.0) for part in parts), default=1
    )
    draw = partial(_draw, arrays, width=width, height=height, sh_degree=cloud.sh_degree)
    # A power of two: other scenes and paths of this size will seldom need another program.
    draw = partial(draw, capacity=1 << (fullest - 1).bit_length())

    def drawn(*part: np.ndarray) -> np.ndarray:
        images, overflow = draw(*part)
        if overflow > 0:
            raise RuntimeError(f"{overflow} tile intersections did not fit a frame's lists")
        return np.asarray(images)

    frames = itertools.chain.from_iterable(_called_at_once(drawn, parts, calls_at_once()))
    yield from itertools.islice(frames, len(cam_from_world))


def frame_size(height: int, width: int, longest_px: int) -> tuple[int, int]:
    """(height, width) of the same shape, even as H.264 wants it, the longer side as given."""
    factor = longest_px / max(height, width)
    return tuple(max(2, 2 * round(side * factor / 2)) for side in (height, width))


def render_path(
    scene: SceneArrays,
    world_from_cam: np.ndarray,
    longest_px: int = VIDEO_PX,
    vertical_fov_deg: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """uint8 frames [h, w, 3] along a path, with the first view's field of view or each its own."""
    height, width = np.asarray(scene.images_01).shape[1:3]
    size = frame_size(height, width, longest_px)
    stretch = np.array([size[1] / width, size[0] / height])
    k = resized_intrinsics(scene.intrinsics[0], stretch)
    if vertical_fov_deg is not None:
        k = np.tile(k, (len(world_from_cam), 1, 1))
        focal = 0.5 * size[0] / np.tan(0.5 * np.deg2rad(vertical_fov_deg))
        k[:, [0, 1], [0, 1]] = focal[:, None]
        k[:, :2, 2] = image_middle(size)
    for image in render(gaussian_cloud(scene), world_from_cam, k, *size):
        yield np.round(image * 255).astype(np.uint8)
