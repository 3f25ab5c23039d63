"""Frames of a video, chosen evenly in time or evenly in what they show and then by sharpness.

They look as a player shows them: upright, with square pixels, in sRGB.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mvdust3r_jax.media import signatures, tone, video_file
from mvdust3r_jax.media.names import printable
from mvdust3r_jax.media.photographs import Photo

CHOICES = ("even", "sharp")
SUFFIXES = {
    *(".mp4", ".mov", ".m4v", ".qt", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".vob", ".3gp"),
    *(".3g2", ".ts", ".m2t", ".mts", ".m2ts", ".insv", ".lrv", ".360", ".wmv", ".asf", ".flv"),
    *(".ogv",),
}
# Endings that do not tell: ".ts" is TypeScript as well.
_UNTELLING = ("", ".ts")
# Frames are compared at this size; longer videos than the limit are thinned out before.
_THUMB = 96
_MAX_THUMBS = 3000
# No frame is read at a larger size.
_MAX_SIDE = 1920


def is_video(path: str | os.PathLike) -> bool:
    """By its ending, or by its content where the ending does not tell."""
    suffix = Path(path).suffix.lower()
    if suffix in _UNTELLING:
        return signatures.video_kind(signatures.start_of(path)) is not None
    return suffix in SUFFIXES


def read_frames(path: str | os.PathLike, count: int, choice: str = "sharp") -> list[Photo]:
    """``count`` frames of a video in time order, or all of them; sides of at most 1920 pixels.

    Of a video of more than 3000 frames, only every second (third, ...) is chosen from.
    ``even``: at equal steps of time. ``sharp``: the video is cut into ``count`` parts between
    which the picture changes by the same amount, so that neighbors overlap alike however fast
    the camera moved, and the sharpest frame of each part is taken.

    Raises:
      ImageError: no video, or damaged. FileNotFoundError. ModuleNotFoundError without
      imageio-ffmpeg.
    """
    path = Path(path)
    if choice not in CHOICES:
        raise ValueError(f"choice must be one of {', '.join(CHOICES)}, got {choice!r}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no video at {path}")
    video = video_file.probe(path)
    step = -(-video.frames // _MAX_THUMBS)
    thumbs, times = video_file.thumbnails(video, _THUMB, step)
    count = min(count, len(thumbs))
    chosen = even_in_time(times, count) if choice == "even" else choose_sharp(thumbs, count)
    return _photos(video, [number * step for number in chosen])


def _photos(video: video_file.Video, numbers: list[int]) -> list[Photo]:
    scale = min(1.0, _MAX_SIDE / max(video.size))
    height, width = (max(1, round(side * scale)) for side in video.size)
    ordinary = tone.is_ordinary(video.primaries, video.transfer)
    frames = video_file.frames(video, numbers, height, width, deep=not ordinary)
    stem = printable(video.path.stem)
    photos = []
    for number, frame in zip(numbers, frames, strict=True):
        pixels = frame if ordinary else tone.to_srgb(frame, video.primaries, video.transfer)
        mask = np.ones(pixels.shape[:2], bool)
        photos.append(Photo(pixels, mask, video.size, f"{stem}_{number:06d}"))
    return photos


def even_in_time(times: np.ndarray, count: int) -> list[int]:
    """The frames shown in the middles of ``count`` equal parts of the time, each another one.

    times: [n + 1], when each frame begins, and when the last one ends.
    """
    total, length = len(times) - 1, times[-1] - times[0]
    middles = times[0] + (np.arange(count) + 0.5) * length / count
    shown = np.searchsorted(times[:-1], middles + 1e-6 * length, side="right") - 1
    for i in range(count):
        low = shown[i - 1] + 1 if i else 0
        shown[i] = np.clip(shown[i], low, total - (count - i))
    return [int(number) for number in shown]


def choose_even(total: int, count: int) -> list[int]:
    """The middles of ``count`` equal parts."""
    return [int((i + 0.5) * total / count) for i in range(count)]


def choose_sharp(thumbs: np.ndarray, count: int) -> list[int]:
    """The sharpest frame of each of ``count`` parts of equal change; thumbs are gray [n, h, w]."""
    gray = thumbs.astype(np.float32)
    # Mean absolute Laplacian: blur removes exactly what it measures.
    laplacian = 4 * gray[:, 1:-1, 1:-1] - (
        gray[:, :-2, 1:-1] + gray[:, 2:, 1:-1] + gray[:, 1:-1, :-2] + gray[:, 1:-1, 2:]
    )
    sharpness = np.abs(laplacian).mean(axis=(1, 2))
    change = np.abs(np.diff(gray, axis=0)).mean(axis=(1, 2))
    # A small constant part keeps standing scenes divisible.
    least = 1e-3 + 0.05 * change.sum() / max(len(change), 1)
    position = np.concatenate([[0.0], np.cumsum(change + least)])
    bounds = np.searchsorted(position, np.linspace(0, position[-1], count + 1)[1:-1])
    starts = np.concatenate([[0], bounds, [len(gray)]])
    # Every part has a frame of its own, even where one jump spans several parts.
    for i in range(1, count):
        starts[i] = np.clip(starts[i], starts[i - 1] + 1, len(gray) - (count - i))
    parts = zip(starts[:-1], starts[1:], strict=True)
    return [int(low + np.argmax(sharpness[low:high])) for low, high in parts]
