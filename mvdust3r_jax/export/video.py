"""Videos of a scene, rendered from its Gaussians by this package's rasterizer.

Frames are uint8 sRGB on white, as in training. H.264 in MP4 through the ffmpeg binary that
``imageio-ffmpeg`` brings along (extra ``demo``).
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mvdust3r_jax.export.camera_paths import fly_through, orbit
from mvdust3r_jax.export.gaussians import GaussianCloud, gaussian_cloud
from mvdust3r_jax.export.posed_views import invert_rigid
from mvdust3r_jax.splat import rasterize
from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.storage.results import results_folder
from mvdust3r_jax.storage.scene_arrays import SceneArrays

FPS = 30
ORBIT_FRAMES = 120
# A flight takes a second per camera, but never longer than this in all.
FRAMES_PER_VIEW, MAX_FLIGHT_FRAMES = 30, 360
# Longest side of a frame in pixels.
VIDEO_PX = 480


@partial(jax.jit, static_argnames=("width", "height", "sh_degree", "capacity"))
def _render(means, quats, scales, opacities, sh, viewmat, k, *, width, height, sh_degree, capacity):
    """One camera; image [H, W, 3] and how many tile intersections there are."""
    image, _, info = rasterize(
        means,
        quats,
        scales,
        opacities,
        sh,
        viewmat[None],
        k[None],
        width,
        height,
        backgrounds=jnp.ones((1, 3)),
        sh_degree=sh_degree,
        capacity=capacity,
    )
    return image[0], info.overflow.max(), info.intersections.max()


def render(
    cloud: GaussianCloud,
    world_from_cam: np.ndarray,
    intrinsics: np.ndarray,
    height: int,
    width: int,
) -> Iterator[np.ndarray]:
    """Images [H, W, 3] in [0, 1], one per pose of ``world_from_cam`` [n, 4, 4].

    intrinsics: [3, 3] of the ``H x W`` image, the first pixel's center at (0, 0). A frame whose
    tile lists overflow is rendered again with room for all: every frame is exact.
    """
    arrays = [cloud.means, cloud.rotations, cloud.scales, cloud.opacities, cloud.sh]
    arrays = [jnp.asarray(array, jnp.float32) for array in arrays]
    # gsplat's convention: the first pixel's center is (0.5, 0.5).
    shifted = jnp.asarray(intrinsics, jnp.float32).at[:2, 2].add(0.5)
    capacity = None
    for pose in np.asarray(invert_rigid(world_from_cam), np.float32):
        draw = partial(_render, *arrays, pose, shifted, width=width, height=height)
        draw = partial(draw, sh_degree=cloud.sh_degree)
        image, overflow, needed = draw(capacity=capacity)
        if overflow > 0:
            # A quarter more than this frame needs, so that its neighbors need no new program.
            capacity = int(needed) * 5 // 4
            image, _, _ = draw(capacity=capacity)
        yield np.clip(np.asarray(image), 0, 1)


def frame_size(height: int, width: int, longest_px: int) -> tuple[int, int]:
    """(height, width) of the same shape, even as H.264 wants it, the longer side as given."""
    factor = longest_px / max(height, width)
    return tuple(max(2, 2 * round(side * factor / 2)) for side in (height, width))


def render_path(
    scene: SceneArrays, world_from_cam: np.ndarray, longest_px: int = VIDEO_PX
) -> Iterator[np.ndarray]:
    """uint8 frames [h, w, 3] along a path, with the first view's field of view."""
    height, width = np.asarray(scene.images_01).shape[1:3]
    size = frame_size(height, width, longest_px)
    k = np.asarray(scene.intrinsics[0], np.float64).copy()
    stretch = np.array([size[1] / width, size[0] / height])
    k[:2, 2] = (k[:2, 2] + 0.5) * stretch - 0.5
    k[[0, 1], [0, 1]] *= stretch
    for image in render(gaussian_cloud(scene), world_from_cam, k, *size):
        yield np.round(image * 255).astype(np.uint8)


def write_mp4(path: str | Path, frames: Iterable[np.ndarray], fps: int = FPS) -> None:
    """Encode uint8 frames [h, w, 3] of even size; ValueError where there is no frame at all."""
    program = _ffmpeg()
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{path}: a video needs at least one frame")
    height, width = first.shape[:2]
    source = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {fps} -i - -an".split()
    codec = "-c:v libx264 -pix_fmt yuv420p -crf 18 -movflags +faststart".split()
    with whole_file(path) as part, tempfile.TemporaryFile() as log:
        command = [program, "-y", "-v", "error", *source, *codec, str(part)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log) as ffmpeg:
            with contextlib.suppress(BrokenPipeError):
                for frame in itertools.chain([first], frames):
                    ffmpeg.stdin.write(np.ascontiguousarray(frame).data)
        if ffmpeg.returncode != 0:
            log.seek(0)
            said = log.read().decode("utf-8", "replace").strip().partition("\n")[0]
            raise RuntimeError(f"ffmpeg could not encode {path}: {said}")


def _ffmpeg() -> str:
    """Path of the encoder. Run directly: the package's own writer forks, which JAX warns of."""
    try:
        import imageio_ffmpeg
    except ImportError as error:
        message = "videos need ffmpeg: pip install 'mvdust3r-jax[demo]' (or imageio-ffmpeg)"
        raise ModuleNotFoundError(message) from error
    return imageio_ffmpeg.get_ffmpeg_exe()


def _flight_frames_per_view(scene: SceneArrays, num_frames: int | None) -> int:
    """How many frames from camera to camera make a flight of about ``num_frames``."""
    legs = max(int(np.sum(scene.pose_ok)) - 1, 1)
    if num_frames is None:
        return max(1, min(FRAMES_PER_VIEW, MAX_FLIGHT_FRAMES // legs))
    return max(1, num_frames // legs)


def write_videos(
    path: str | Path,
    scene: SceneArrays,
    *,
    num_frames: int | None = None,
    longest_px: int = VIDEO_PX,
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Write the folder ``path`` with ``orbit.mp4`` and ``fly_through.mp4``.

    Args:
      path: of the folder.
      scene: with at least one pose.
      num_frames: of each video; a flight has at least one from camera to camera.
      longest_px: the longer side of a frame.
      progress: called after each frame with the share that is done.
    """
    scene, _ = scene.recentered()
    per_view = _flight_frames_per_view(scene, num_frames)
    paths = orbit(scene, num_frames or ORBIT_FRAMES), fly_through(scene, per_view)
    count, done = sum(map(len, paths)), itertools.count(1)

    def frames(poses: np.ndarray) -> Iterator[np.ndarray]:
        for frame in render_path(scene, poses, longest_px):
            progress(next(done) / count)
            yield frame

    with results_folder(path) as folder:
        for name, poses in zip(("orbit.mp4", "fly_through.mp4"), paths, strict=True):
            write_mp4(folder / name, frames(poses))
