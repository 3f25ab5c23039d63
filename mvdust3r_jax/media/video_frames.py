"""Frames of a video, chosen evenly in time or evenly in what they show and then by sharpness.

ffmpeg decodes in a process of its own (extra ``demo``: imageio-ffmpeg), so that a damaged file
cannot take this one down; it turns frames upright and never gets a file it may not read.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from mvdust3r_jax.media.photographs import Photo
from mvdust3r_jax.media.picture import ImageError

Choice = Literal["even", "sharp"]
CHOICES = ("even", "sharp")
SUFFIXES = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".mts", ".3gp"}
# ffmpeg's names of these containers. Others (concat lists, playlists) can name further files, and
# ffmpeg goes by the content, whatever the file is called.
_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo"
# Frames are compared at this size; longer videos than the limit are thinned out before.
_THUMB = 96
_MAX_THUMBS = 3000
# Every decoding is stopped after this, and no frame is read at a larger size.
_TIMEOUT_S = 300
_MAX_SIDE = 1920
_MAX_FRAME_PIXELS = 64_000_000


def is_video(path: str | os.PathLike) -> bool:
    """By its ending."""
    return Path(path).suffix.lower() in SUFFIXES


def read_frames(path: str | os.PathLike, count: int, choice: Choice = "sharp") -> list[Photo]:
    """``count`` frames of a video in time order, the longer side at most 1920 pixels.

    ``even``: at equal steps of time. ``sharp``: the video is cut into ``count`` parts between
    which the picture changes by the same amount, so that neighbours overlap alike however fast
    the camera moved, and the sharpest frame of each part is taken.

    Raises:
      ImageError: no video, damaged, or too few frames. FileNotFoundError. ModuleNotFoundError
      without imageio-ffmpeg.
    """
    path = Path(path)
    if choice not in CHOICES:
        raise ValueError(f"choice must be one of {', '.join(CHOICES)}, got {choice!r}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no video at {path}")
    width, height, total = _probe(path)
    step = -(-total // _MAX_THUMBS)
    thumbs = np.stack(list(_decode(path, _THUMB, _THUMB, step)) or [np.zeros((0, 0))])
    if len(thumbs) < max(count, 1) or thumbs.size == 0:
        raise ImageError(f"{path} has {len(thumbs) * (thumbs.size > 0)} frames, {count} are needed")
    chosen = choose_even(len(thumbs), count) if choice == "even" else choose_sharp(thumbs, count)
    scale = min(1.0, _MAX_SIDE / max(width, height))
    size = tuple(max(2, round(side * scale)) for side in (width, height))
    frames = list(_decode(path, *size, step, chosen, channels=3))
    if len(frames) != count:
        raise ImageError(f"{path} is damaged: {len(frames)} of {count} frames could be decoded")
    return [
        Photo(frame, np.ones(frame.shape[:2], bool), (height, width), f"{path.stem}_{i * step:06d}")
        for i, frame in zip(chosen, frames, strict=True)
    ]


def choose_even(total: int, count: int) -> list[int]:
    """The middles of ``count`` equal parts."""
    return [int((i + 0.5) * total / count) for i in range(count)]


def choose_sharp(thumbs: np.ndarray, count: int) -> list[int]:
    """The sharpest frame of each of ``count`` parts of equal change; thumbs are grey [n, h, w]."""
    grey = thumbs.astype(np.float32)
    # Mean absolute Laplacian: blur removes exactly what it measures.
    laplacian = 4 * grey[:, 1:-1, 1:-1] - (
        grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    )
    sharpness = np.abs(laplacian).mean(axis=(1, 2))
    change = np.abs(np.diff(grey, axis=0)).mean(axis=(1, 2))
    # A small constant part keeps standing scenes divisible.
    position = np.concatenate([[0.0], np.cumsum(change + 1e-3 + 0.05 * change.mean())])
    bounds = np.searchsorted(position, np.linspace(0, position[-1], count + 1)[1:-1])
    starts = np.concatenate([[0], bounds, [len(grey)]])
    # Every part has a frame of its own, even where one jump spans several parts.
    for i in range(1, count):
        starts[i] = np.clip(starts[i], starts[i - 1] + 1, len(grey) - (count - i))
    parts = zip(starts[:-1], starts[1:], strict=True)
    return [int(low + np.argmax(sharpness[low:high])) for low, high in parts]


# ---------------------------------------------------------------- ffmpeg


def _ffmpeg() -> str:
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise ModuleNotFoundError(
            "videos need ffmpeg: pip install 'mvdust3r-jax[demo]' (or imageio-ffmpeg)"
        ) from error
    return imageio_ffmpeg.get_ffmpeg_exe()


def _run(path: Path, *options: str) -> subprocess.CompletedProcess:
    """Run ffmpeg on one input; it may read nothing but that file."""
    command = [_ffmpeg(), "-nostdin", "-hide_banner", "-protocol_whitelist", "file,pipe"]
    command += ["-format_whitelist", _DEMUXERS, "-max_pixels", str(_MAX_FRAME_PIXELS)]
    command += ["-i", f"file:{path}", "-map", "0:v:0", *options, "-"]
    try:
        return subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise ImageError(f"{path}: decoding took longer than {_TIMEOUT_S} s") from error


def _probe(path: Path) -> tuple[int, int, int]:
    """(width, height) of an upright frame, and how many frames there are about."""
    first = _run(path, "-v", "error", "-frames:v", "1", "-f", "image2pipe", "-c:v", "ppm")
    header = re.match(rb"P6\s+(\d+)\s+(\d+)\s", first.stdout)
    if header is None:
        lines = first.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1][:200] if lines else "it holds no picture"
        told = ImageError(f"{path} cannot be read as a video: {reason}")
        told.add_note("convert it to MP4, or give its frames as images")
        raise told
    counted = _run(path, "-c", "copy", "-f", "null").stderr.decode(errors="replace")
    frames = [int(number) for number in re.findall(r"frame=\s*(\d+)", counted)]
    return int(header[1]), int(header[2]), frames[-1] if frames else 1


def _decode(
    path: Path,
    width: int,
    height: int,
    step: int,
    chosen: list[int] | None = None,
    channels: int = 1,
) -> Iterator[np.ndarray]:
    """Every ``step``-th frame, or only those of them with the chosen numbers, as uint8."""
    wanted = f"not(mod(n,{step}))"
    if chosen is not None:
        wanted = "+".join(f"eq(n,{i * step})" for i in chosen)
    options = ["-v", "error", "-vf", f"select='{wanted}',scale={width}:{height}:flags=area"]
    options += ["-fps_mode", "passthrough", "-f", "rawvideo"]
    done = _run(path, *options, "-pix_fmt", "rgb24" if channels == 3 else "gray")
    shape = (height, width, channels) if channels > 1 else (height, width)
    size = int(np.prod(shape))
    for i in range(len(done.stdout) // size):
        yield np.frombuffer(done.stdout, np.uint8, size, i * size).reshape(shape)
