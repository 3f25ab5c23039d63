"""Colored points as a binary PLY, and the flat arrays that other formats start from.

World frame (the reference camera: x right, y down, z forward; or that of known poses), units of
the scene's points.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mvdust3r_jax.export.posed_views import usable_pixels, view_colors
from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# What a file says of its frame.
REFERENCE_FRAME = "frame: reference camera, x right, y down, z forward"
# PLY's names of NumPy's types.
PLY_TYPES = {"u1": "uchar", "<f4": "float", "<f8": "double"}
KNOWN_FRAME = "frame: that of the known poses"


def cloud(scene: SceneArrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the masked pixels: points [n, 3], colors [n, 3] uint8, confidence [n] float32.

    Points are float32, or float64 where the scene's are.
    """
    keep = usable_pixels(scene)
    return (
        scene_points(scene)[keep],
        view_colors(scene)[keep],
        np.asarray(scene.confidence, np.float32)[keep],
    )


def scene_points(scene: SceneArrays) -> np.ndarray:
    """[V, H, W, 3] float32, or float64 where the world lies far from its origin."""
    points = np.asarray(scene.points)
    return points if points.dtype == np.float64 else points.astype(np.float32, copy=False)


def ply_header(count: int, properties: list[tuple[str, str]], comments: list[str]) -> bytes:
    """Header of a binary little-endian PLY with one ``vertex`` element."""
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [f"comment {comment}" for comment in comments]
    lines += [f"element vertex {count}"]
    lines += [f"property {kind} {name}" for name, kind in properties]
    return ("\n".join([*lines, "end_header"]) + "\n").encode("ascii")


def write_ply(path: str | Path, scene: SceneArrays) -> None:
    """The scene's points, one vertex per masked pixel, in the world frame."""
    frame = REFERENCE_FRAME if scene.world_is_reference else KNOWN_FRAME
    write_points_ply(path, *cloud(scene), frame)


def write_points_ply(
    path: str | Path, points: np.ndarray, colors: np.ndarray, confidence: np.ndarray, comment: str
) -> None:
    """Vertices ``x y z red green blue confidence``: points [n, 3], uint8 colors [n, 3], [n]."""
    kinds = dict.fromkeys("xyz", "<f8" if points.dtype == np.float64 else "<f4")
    kinds |= {"red": "u1", "green": "u1", "blue": "u1", "confidence": "<f4"}
    vertices = np.empty(len(points), dtype=list(kinds.items()))
    columns = [*points.T, *colors.T, confidence]
    for name, column in zip(kinds, columns, strict=True):
        vertices[name] = column
    properties = [(name, PLY_TYPES[kind]) for name, kind in kinds.items()]
    header = ply_header(len(vertices), properties, [comment])
    with whole_file(path) as partial:
        partial.write_bytes(header + vertices.tobytes())
