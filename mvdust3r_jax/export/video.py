"""Videos of a scene, rendered from its Gaussians by this package's rasterizer.

Frames are uint8 sRGB on white, as in training. H.264 in MP4, tagged BT.709, through the ffmpeg
binary that ``imageio-ffmpeg`` brings along (extra ``demo``).
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mvdust3r_jax.export.camera_paths import fly_through, orbit
from mvdust3r_jax.export.gaussians import GaussianCloud, gaussian_cloud
from mvdust3r_jax.export.path_file import Keyframe, poses_along
from mvdust3r_jax.export.posed_views import invert_rigid
from mvdust3r_jax.splat import capacity_for, rasterize
from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.storage.results import results_folder
from mvdust3r_jax.storage.scene_arrays import SceneArrays

FPS = 30
ORBIT_FRAMES = 120
# A flight takes a second per camera, but never longer than this in all.
FRAMES_PER_VIEW, MAX_FLIGHT_FRAMES = 30, 360
# From keyframe to keyframe of a path made by hand.
KEYFRAME_FRAMES = 60
# Longest side of a frame in pixels: 480 lines of an image of 4:3.
VIDEO_PX = 640
# A pixel of the network's images becomes this many at most when Gaussians are drawn; what is to be
# larger is enlarged (Lanczos), which differs from drawing it so by no more than encoding does
# (43 dB, small network): a Gaussian is about a pixel wide and blurs the rest.
_DRAWN_PER_PIXEL = 3
# Frames of one call of the rasterizer: as many as have so many pixels, and at most these.
_PIXELS_AT_ONCE, _MOST_AT_ONCE = 1 << 19, 32


def cameras_at_once(height: int, width: int) -> int:
    """Frames of one call: small ones take longer to call for than to draw."""
    return max(1, min(_MOST_AT_ONCE, _PIXELS_AT_ONCE // (height * width)))


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
    tile lists
    have room for the fullest frame: every frame is exact, and one program draws all of them. While
    a part of the frames is used, the next one is drawn.
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
    left = len(cam_from_world)
    drawn = [draw(*part) for part in parts[:1]]
    for number in range(len(parts)):
        images, overflow = drawn.pop()
        if number + 1 < len(parts):
            drawn.append(draw(*parts[number + 1]))
        if overflow > 0:
            raise RuntimeError(f"{overflow} tile intersections did not fit a frame's lists")
        yield from np.asarray(images)[:left]
        left -= count


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
    k = np.asarray(scene.intrinsics[0], np.float64).copy()
    stretch = np.array([size[1] / width, size[0] / height])
    k[:2, 2] = (k[:2, 2] + 0.5) * stretch - 0.5
    k[[0, 1], [0, 1]] *= stretch
    if vertical_fov_deg is not None:
        k = np.tile(k, (len(world_from_cam), 1, 1))
        focal = 0.5 * size[0] / np.tan(0.5 * np.deg2rad(vertical_fov_deg))
        k[:, [0, 1], [0, 1]] = focal[:, None]
        k[:, :2, 2] = (np.array(size[::-1]) - 1) / 2
    for image in render(gaussian_cloud(scene), world_from_cam, k, *size):
        yield np.round(image * 255).astype(np.uint8)


def write_mp4(
    path: str | Path,
    frames: Iterable[np.ndarray],
    fps: int = FPS,
    size: tuple[int, int] | None = None,
) -> None:
    """Encode uint8 frames [h, w, 3]; ValueError where there is no frame at all.

    size: (height, width) of the video, both even; by default the frames'. They are encoded while
    the next ones are made.
    """
    program = _ffmpeg()
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{path}: a video needs at least one frame")
    height, width = first.shape[:2]
    source = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {fps} -i - -an".split()
    tall, wide = size or (height, width)
    # Without a tag, players guess the matrix by the size.
    colors = f"-vf scale={wide}:{tall}:flags=lanczos:out_color_matrix=bt709:out_range=tv".split()
    colors += ["-color_range", "tv"]
    colors += [
        word
        for kind in ("colorspace", "color_primaries", "color_trc")
        for word in (f"-{kind}", "bt709")
    ]
    codec = [*"-c:v libx264 -preset veryfast -pix_fmt yuv420p".split(), *colors]
    codec += "-crf 18 -movflags +faststart".split()
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

    def told() -> None:
        progress(next(done) / count)

    with results_folder(path) as folder:
        for name, poses in zip(("orbit.mp4", "fly_through.mp4"), paths, strict=True):
            _write_along(folder / name, scene, poses, None, longest_px, told)


def write_path_video(
    path: str | Path,
    scene: SceneArrays,
    *,
    keyframes: Sequence[Keyframe],
    num_frames: int | None = None,
    longest_px: int = VIDEO_PX,
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Write ``path``, a video along a path made by hand (`path_file`); as `write_videos` else.

    num_frames: by default 2 s from keyframe to keyframe.
    """
    scene, origin = scene.recentered()
    count = num_frames or KEYFRAME_FRAMES * (len(keyframes) - 1) + 1
    poses, fovs_deg = poses_along(keyframes, count)
    poses[:, :3, 3] -= origin
    done = itertools.count(1)

    def told() -> None:
        progress(next(done) / count)

    _write_along(Path(path), scene, poses, fovs_deg, longest_px, told)


def _write_along(path: Path, scene: SceneArrays, poses, fovs_deg, longest_px: int, told) -> None:
    """One video; ``told`` is called after each frame."""
    height, width = np.asarray(scene.images_01).shape[1:3]
    drawn_px = min(longest_px, _DRAWN_PER_PIXEL * max(height, width))

    def frames() -> Iterator[np.ndarray]:
        for frame in render_path(scene, poses, drawn_px, fovs_deg):
            told()
            yield frame

    write_mp4(path, frames(), size=frame_size(height, width, longest_px))
