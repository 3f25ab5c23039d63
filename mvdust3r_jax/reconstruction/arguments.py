"""What `reconstruct` is asked for, checked before anything is read or compiled.

ValueError says what was expected and what came.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mvdust3r_jax.cameras.known import KnownCameras
from mvdust3r_jax.media import names
from mvdust3r_jax.media.photographs import Photo, SupportsArray
from mvdust3r_jax.reconstruction.network import WORDS, Reference
from mvdust3r_jax.reconstruction.scene_cameras import LENSES

Source = str | os.PathLike | SupportsArray | Image.Image | Photo


def as_list(images: object) -> list:
    """The photographs, at least two; a stack [V, h, w, 3] is as many as it is long."""
    shape = tuple(getattr(images, "shape", ()))
    if len(shape) in (1, 2) or (len(shape) == 3 and shape[2] <= 4):
        raise ValueError(
            "images must be a list of photographs, or a stack [V, h, w, 3] of them, got one array "
            f"of the shape {shape}"
        )
    try:
        listed = None if isinstance(images, str | bytes | os.PathLike) else list(images)
    except TypeError:
        listed = None
    if listed is None:
        told = "a single path" if isinstance(images, str | os.PathLike) else type(images).__name__
        raise ValueError(f"images must be a list of photographs, got {told}")
    if len(listed) < 2:
        raise ValueError(f"at least 2 images are needed, got {len(listed)}")
    return listed


def as_size(size: object, patch: int) -> tuple[int, int]:
    """(height, width) of what the network sees; one number is both."""
    try:
        sides = (size, size) if np.ndim(size) == 0 else tuple(size)
        height, width = map(operator.index, sides)
    except (TypeError, ValueError):
        raise ValueError(f"size is (height, width) in pixels, got {size!r}") from None
    if height % patch or width % patch or min(height, width) < patch:
        raise ValueError(
            f"the network takes sizes that are multiples of {patch}, got {height} x {width}"
        )
    return height, width


def as_reference(reference: object, views: int) -> Reference:
    """A word of `network.WORDS`, or the number of one of so many photographs as an int."""
    if isinstance(reference, str) and reference in WORDS:
        return reference
    try:
        # True is an index, too.
        number = -1 if isinstance(reference, bool | np.bool_) else operator.index(reference)
    except TypeError:
        number = -1
    if not 0 <= number < views:
        raise ValueError(
            f"the reference is 'auto', 'middle', 'first' or a photograph from 0 to {views - 1}, "
            f"got {reference!r}"
        )
    return number


def check_focal(focal_px: Any, views: int, cameras: KnownCameras) -> None:
    """A word, a number, or a number for each photograph; nothing where intrinsics are known."""
    if focal_px is None:
        return
    if cameras.intrinsics is not None:
        raise ValueError(f"focal_px = {focal_px!r} and the intrinsics of cameras: give one")
    words = ("exif", *LENSES)
    if isinstance(focal_px, str):
        if focal_px not in words:
            raise ValueError(f"focal_px is a number or one of {words}, got {focal_px!r}")
        return
    if isinstance(focal_px, bool):
        raise ValueError(f"focal_px is a number or one of {words}, got {focal_px}")
    shape = np.shape(focal_px)
    if shape not in ((), (views,)):
        raise ValueError(f"focal_px is one number or one for each of {views} images, got {shape}")


def check_counts(views: int, num_refs: Any, known: KnownCameras, masks: Any) -> None:
    """References, and one of each thing that is given for each photograph."""
    if isinstance(num_refs, bool) or not hasattr(num_refs, "__index__") or num_refs < 1:
        raise ValueError(f"num_refs must be a whole number of at least 1, got {num_refs!r}")
    for name, given in [
        ("masks", masks),
        ("intrinsics", known.intrinsics),
        ("poses", known.world_from_cam),
    ]:
        if given is not None and len(given) != views:
            raise ValueError(f"{len(given)} {name} do not fit {views} images")


def check_windows(window: int | None, window_by: str, kept_in: Any) -> None:
    """That nothing is said of windows where there are none."""
    if window_by not in ("order", "likeness"):
        raise ValueError(f"window_by must be 'order' or 'likeness', got {window_by!r}")
    if window is None and (window_by != "order" or kept_in is not None):
        given = f"window_by={window_by!r}" if kept_in is None else "kept_in"
        raise ValueError(f"{given} is about windows; window says how many photographs each has")


def scene_names(images: Sequence[Source], told: Sequence[str]) -> list[str]:
    """What the views are called, of the photographs' names: distinct texts for any file."""
    folders = [
        Path(os.path.abspath(source)).parent.name if isinstance(source, str | os.PathLike) else ""
        for source in images
    ]
    return names.distinct(told, folders)
