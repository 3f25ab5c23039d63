"""Cameras in JSON: our ``cameras.json``, and those of other programs.

The cameras of a ``transforms.json`` (nerfstudio and its relatives) look along -z with y up, and its
pixels are counted from the corner. NeRF's synthetic scenes and instant-ngp give a field of view,
with or without the size of the images. The ``cameras.json`` that programs for Gaussian splatting
leave beside their results is a list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mvdust3r_jax.cameras.entries import CameraError, Entry, whole_number
from mvdust3r_jax.geometry.pixels import center_from_corner

_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
# Camera models whose images are pinhole images if all distortion is zero.
_PINHOLE_MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
# How instant-ngp marks other lenses: by a truth value, or (f-theta) by parameters of their own.
_MARKS = {"is_fisheye": "fisheye", "latlong": "latlong", "equirectangular": "equirectangular"}
_F_THETA = "ftheta_p0"
_DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")


def read(path: Path) -> list[Entry]:
    """All cameras of the file; CameraError where it is of none of the three kinds."""
    try:
        # Bytes: a byte-order mark, and the encodings that Windows writes, are recognized.
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CameraError(f"{path} is no JSON file: {error}") from error
    try:
        if isinstance(content, list) and content:
            return [_splatting_camera(camera) for camera in content]
        if not isinstance(content, dict):
            kind = "list without entries" if content == [] else type(content).__name__
            raise ValueError(f"expected an object with frames or views, got a {kind}")
        frames = content["frames"] if "frames" in content else content["views"]
        whole = {**content, "frames": None}
        return [
            _transforms_camera({**whole, **frame}) if "frames" in content else _own_camera(frame)
            for frame in frames
        ]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        told = str(error) if isinstance(error, ValueError) else repr(error)
        raise CameraError(
            f"{path} is neither a cameras.json nor a nerfstudio transforms.json: {told}"
        ) from error


def _own_camera(view: Mapping[str, Any]) -> Entry:
    original = view["original"]
    size = tuple(whole_number(original.get(key), key) for key in ("height", "width"))
    pose = view["world_from_cam"]
    return Entry(
        str(view["name"]),
        _array(original["intrinsics"]),
        None if pose is None else _array(pose),
        size,
        upright=True,
    )


def _splatting_camera(camera: Mapping[str, Any]) -> Entry:
    """Of Kerbl et al.'s program and its relatives: camera-to-world in two parts, no center."""
    height, width = size = tuple(whole_number(camera[key], key) for key in ("height", "width"))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = _array(camera["rotation"]), _array(camera["position"])
    fx, fy = float(camera["fx"]), float(camera["fy"])
    u, v = center_from_corner(width / 2), center_from_corner(height / 2)
    intrinsics = np.array([[fx, 0, u], [0, fy, v], [0, 0, 1]])
    return Entry(str(camera["img_name"]), intrinsics, pose, size)


def _transforms_camera(frame: Mapping[str, Any]) -> Entry:
    """Of a frame with the file's common values."""
    width, height = (whole_number(frame.get(key), key) for key in ("w", "h"))
    angles = tuple(_angle(frame, axis) for axis in "xy")
    focals = [_focal(frame, *x) for x in zip("xy", angles, (width, height), strict=True)]
    focals = [next((f for f in order if f is not None), None) for order in (focals, focals[::-1])]
    center = tuple(_center(frame, *x) for x in (("cx", width), ("cy", height)))
    intrinsics = None
    if None not in center and focals[0] is not None:
        u, v = center
        intrinsics = np.array([[focals[0], 0, u], [0, focals[1], v], [0, 0, 1]], np.float64)
    pose = _array(frame["transform_matrix"])
    if pose.ndim == 2 and pose.shape[1] == 4:
        pose = pose @ _OPENCV_FROM_OPENGL
    unsized = {"angles": angles, "center": center} if intrinsics is None else {}
    name, mask = str(frame["file_path"]), str(frame.get("mask_path") or "")
    flaw = _flaw(frame)
    return Entry(name, intrinsics, pose, (height, width), flaw=flaw, mask=mask, **unsized)


def _array(values: Any) -> np.ndarray:
    """Rows of numbers; ValueError for anything else."""
    return np.array(values, np.float64)


def _center(frame: Mapping[str, Any], key: str, side: int) -> float | None:
    """The principal point along one axis, by default the middle; None where no size is told."""
    if frame.get(key) is not None:
        return center_from_corner(float(frame[key]))
    return center_from_corner(side / 2) if side else None


def _angle(frame: Mapping[str, Any], axis: str) -> float | None:
    """The field of view in radians; ValueError for what is none. instant-ngp may give degrees."""
    radians, degrees = f"camera_angle_{axis}", f"{axis}_fov"
    if frame.get(radians) is not None:
        return _between(frame, radians, np.pi, "radians between 0 and pi")
    if frame.get(degrees) is not None:
        return float(np.deg2rad(_between(frame, degrees, 180, "degrees between 0 and 180")))
    return None


def _between(frame: Mapping[str, Any], key: str, limit: float, expected: str) -> float:
    value = float(frame[key])
    if not 0 < value < limit:
        raise ValueError(f"{key} = {value}, expected {expected}")
    return value


def _focal(frame: Mapping[str, Any], axis: str, angle: float | None, side: int) -> float | None:
    """Focal length in pixels, given as such or as the field of view over ``side`` pixels."""
    if frame.get(f"fl_{axis}") is not None:
        return float(frame[f"fl_{axis}"])
    return 0.5 * side / np.tan(0.5 * angle) if angle is not None and side else None


def _flaw(frame: Mapping[str, Any]) -> str | None:
    """Why a pinhole camera is not what took the image."""
    model = str(frame.get("camera_model") or "OPENCV").upper()
    marked = [word for key, word in _MARKS.items() if frame.get(key)]
    marked += ["ftheta"] if frame.get(_F_THETA) is not None else []
    if model not in _PINHOLE_MODELS or marked:
        return f"the camera model {model if model not in _PINHOLE_MODELS else marked[0]}"
    bent = {name: float(frame.get(name) or 0) for name in _DISTORTION}
    listed = frame.get("distortion_params") or ()
    bent |= {f"distortion_params[{i}]": float(x) for i, x in enumerate(listed)}
    told = [f"{name} = {value:g}" for name, value in bent.items() if value != 0]
    return f"lens distortion ({', '.join(told)})" if told else None
