"""Videos of a scene: H.264 in MP4, tagged BT.709, of frames that `drawing` makes.

Through the ffmpeg binary that ``imageio-ffmpeg`` brings along (extra ``demo``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mvdust3r_jax.export.camera_paths import fly_through, orbit
from mvdust3r_jax.export.drawing import VIDEO_PX, frame_size, render_path
from mvdust3r_jax.export.path_file import Keyframe, poses_along
from mvdust3r_jax.media import ffmpeg
from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.storage.results import results_folder
from mvdust3r_jax.storage.scene_arrays import SceneArrays

FPS = 30
ORBIT_FRAMES = 120
# A flight takes a second per camera, but never longer than this in all.
FRAMES_PER_VIEW, MAX_FLIGHT_FRAMES = 30, 360
# From keyframe to keyframe of a path made by hand.
KEYFRAME_FRAMES = 60
# Gaussians are drawn at this many pixels for one of the network's images, and at no less than the
# second number on the longer side; what is to be larger is enlarged (Lanczos), which differs from
# drawing it so by no more than encoding does (43 dB with either of the networks that ship): a
# Gaussian is at least a pixel wide and blurs the rest.
_DRAWN_PER_PIXEL, _DRAWN_AT_LEAST = 2, 192


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
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{path}: a video needs at least one frame")
    height, width = first.shape[:2]
    source = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {fps} -i - -an".split()
    chunks = (np.ascontiguousarray(frame).data for frame in itertools.chain([first], frames))
    with whole_file(path) as part:
        options = [*source, *_codec(*(size or (height, width))), str(part)]
        ffmpeg.write(chunks, *options, task=f"encode {path}")


def _codec(height: int, width: int) -> list[str]:
    """Ffmpeg's options for H.264 of this size in the colors of BT.709."""
    scale = f"scale={width}:{height}:flags=lanczos:out_color_matrix=bt709:out_range=tv"
    # Without a tag, players guess the matrix by the size.
    tags = [("-color_range", "tv")]
    tags += [(f"-{kind}", "bt709") for kind in ("colorspace", "color_primaries", "color_trc")]
    codec = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -crf 18 -movflags +faststart".split()
    return ["-vf", scale, *itertools.chain(*tags), *codec]


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
      num_frames: of each video; of a flight about so many, as many from each camera to the next.
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
    enough_px = max(_DRAWN_PER_PIXEL * max(height, width), _DRAWN_AT_LEAST)
    drawn_px = min(longest_px, enough_px)

    def frames() -> Iterator[np.ndarray]:
        for frame in render_path(scene, poses, drawn_px, fovs_deg):
            told()
            yield frame

    write_mp4(path, frames(), size=frame_size(height, width, longest_px))
