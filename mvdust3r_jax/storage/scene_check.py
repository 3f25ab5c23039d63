"""What a saved scene must hold: every field by name, shape, kind and finiteness.

Files come back from editors, other programs and broken disks; whatever reads a scene may rely on
what is checked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Field -> shape in letters (V views, H W pixels), kind of numbers, and whether all must be finite.
# Points need not be: where they are not, `SceneArrays.keep` leaves them out.
FIELDS = {
    "images_01": ("VHW3", "f", True),
    "points": ("VHW3", "f", False),
    "confidence": ("VHW", "f", True),
    "world_from_cam": ("V44", "f", True),
    "pose_ok": ("V", "b", False),
    "intrinsics": ("V33", "f", True),
    "original_intrinsics": ("V33", "f", True),
    "original_sizes": ("V2", "iu", False),
    "masks": ("VHW", "b", False),
}
_GAUSSIANS = {
    "gaussians_colors": ("VHWK", "f", True),
    "gaussians_opacities": ("VHW", "f", True),
    "gaussians_scales": ("VHW3", "f", True),
    "gaussians_rotations": ("VHW4", "f", True),
}
_META = {
    **{"names": list, "timings": dict, "metric": bool, "world_is_reference": bool},
    **{"reference": int, "reference_margin": float | None, "refinement": dict | None},
    "pose_doubt": str,
}
# No photograph is larger; exports allocate pictures of these sizes.
MAX_SIDE = 1_000_000
# Rotations are float32, and may have been typed.
_POSE_TOLERANCE = 1e-2
# Written by versions that had no such field.
_OPTIONAL_META = (
    *("world_is_reference", "reference", "reference_margin", "refinement"),
    "pose_doubt",
)


class SceneFileError(ValueError):
    """A file that is no saved scene, or one that was damaged; it is named with what is wrong."""


def check_scene(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """That these are the fields of a scene and fit each other.

    Raises:
      SceneFileError: with the first field that does not, what was expected and what is there.
    """
    fields = FIELDS | (_GAUSSIANS if any(name in arrays for name in _GAUSSIANS) else {})
    _check_names(path, "arrays", fields, arrays, ())
    _check_names(path, "fields", _META, meta, _OPTIONAL_META)
    sizes: dict[str, int] = {}
    for name, (letters, kinds, finite) in fields.items():
        _check_array(path, name, arrays[name], letters, kinds, finite, sizes)
    for name, kind in _META.items():
        if name in meta and not isinstance(meta[name], kind):
            _fail(path, name, f"a {getattr(kind, '__name__', kind)}", repr(meta[name])[:60])
    names = meta["names"]
    if len(names) != sizes["V"] or not all(isinstance(name, str) for name in names):
        _fail(path, "names", f"{sizes['V']} texts", repr(names)[:60])
    if not 0 <= meta.get("reference", 0) < sizes["V"]:
        _fail(path, "reference", f"a view from 0 to {sizes['V'] - 1}", repr(meta["reference"])[:60])
    if "K" in sizes and round((sizes["K"] / 3) ** 0.5) ** 2 * 3 != sizes["K"]:
        _fail(path, "gaussians_colors", "3, 12, 27 or 48 numbers a pixel", str(sizes["K"]))
    sizes_px = arrays["original_sizes"]
    if (sizes_px < 1).any() or (sizes_px > MAX_SIDE).any():
        _fail(path, "original_sizes", f"sizes from 1 to {MAX_SIDE}", str(sizes_px.tolist()[:3]))
    _check_poses(path, arrays["world_from_cam"])
    seconds = [*meta["timings"].values()]
    if not all(isinstance(s, int | float) and np.isfinite(s) for s in seconds):
        _fail(path, "timings", "seconds", repr(meta["timings"])[:60])
    for name in ("intrinsics", "original_intrinsics"):
        focal = arrays[name][:, [0, 1], [0, 1]]
        if (focal <= 0).any():
            _fail(path, name, "positive focal lengths", str(focal.min()))


def _check_poses(path: Path, poses: np.ndarray) -> None:
    """Rotations and translations; a scale, a mirror, and what cannot be inverted are neither."""
    rotation = np.asarray(poses[:, :3, :3], np.float64)
    gram = rotation @ rotation.transpose(0, 2, 1)
    turned = np.abs(gram - np.eye(3)).max(axis=(1, 2))
    flat = np.abs(poses[:, 3] - np.array([0.0, 0.0, 0.0, 1.0])).max(axis=1)
    errors = np.where(np.linalg.det(rotation) > 0, np.maximum(turned, flat), np.inf)
    if errors.max() > _POSE_TOLERANCE:
        worst = int(errors.argmax())
        _fail(path, "world_from_cam", "rotations and translations", str(poses[worst].tolist())[:90])


def _check_names(path: Path, what: str, wanted, given, optional) -> None:
    missing = sorted(set(wanted) - set(given) - set(optional))
    foreign = sorted(set(given) - set(wanted))
    if missing or foreign:
        parts = [f"it lacks {', '.join(missing)}"] if missing else []
        parts += [f"it has unknown {what}: {', '.join(foreign)[:80]}"] if foreign else []
        raise SceneFileError(f"{path} is no saved scene: {'; '.join(parts)}")


def _check_array(path, name, array, letters, kinds, finite, sizes: dict[str, int]) -> None:
    """One array; ``sizes`` collects what each letter stands for."""
    fits = array.ndim == len(letters) and 0 not in array.shape
    for letter, size in zip(letters, array.shape, strict=False):
        fits &= size == (int(letter) if letter.isdigit() else sizes.setdefault(letter, size))
    if not fits:
        known = " ".join(str(sizes.get(letter, letter)) for letter in letters)
        _fail(path, name, f"the shape [{known}]", str(list(array.shape)))
    if array.dtype.kind not in kinds:
        words = {"f": "floating-point numbers", "b": "true or false", "iu": "whole numbers"}
        _fail(path, name, words[kinds], str(array.dtype))
    if finite and not np.isfinite(array).all():
        wrong = int((~np.isfinite(array)).sum())
        _fail(path, name, "finite numbers", f"{wrong} that are not")


def _fail(path: Path, name: str, expected: str, received: str) -> None:
    raise SceneFileError(f"{path}: {name} should hold {expected}, got {received}")
