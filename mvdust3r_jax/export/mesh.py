"""A mesh of the scene: the fused depth maps' surface with the photographs' colors.

``mesh.ply`` is in the world frame, ``mesh.glb`` y up as `export.glb`; ``mesh.json`` counts. A hole
is a chain of edges with a face on one side only: the outer rim of what was photographed is one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from mvdust3r_jax.export.cloud import KNOWN_FRAME, PLY_TYPES, REFERENCE_FRAME
from mvdust3r_jax.export.depth_files import depth_of_views
from mvdust3r_jax.export.glb import TRIANGLES, Builder
from mvdust3r_jax.export.point_filter import nearest_pixel
from mvdust3r_jax.export.posed_views import (
    OPENGL_FROM_OPENCV,
    invert_rigid,
    posed_views,
    project,
    transform,
    view_colors,
)
from mvdust3r_jax.export.tsdf import TRUNCATION_VOXELS, fuse, zero_surface
from mvdust3r_jax.storage.results import results_folder
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# Pieces of fewer faces float in front of surfaces where depth maps disagree; they are dropped.
MIN_FACES = 100


class Mesh(NamedTuple):
    """Vertices [n, 3] in the world, uint8 colors [n, 3], faces [m, 3], and what is said of them."""

    vertices: np.ndarray
    colors: np.ndarray
    faces: np.ndarray
    facts: dict[str, float | int | str]


def write_mesh(path: str | Path, scene: SceneArrays) -> None:
    """Write the folder ``path``."""
    # Worlds far from their origin: fused near it, and moved back in each file's own way.
    scene, origin = scene.recentered()
    mesh = scene_mesh(scene)
    frame = REFERENCE_FRAME if scene.world_is_reference else KNOWN_FRAME
    turn = OPENGL_FROM_OPENCV if scene.world_is_reference else np.eye(4)
    glb = Builder(turn, turn[:3, :3] @ origin)
    if len(mesh.faces):
        piece = glb.primitive(mesh.vertices, TRIANGLES, colors=mesh.colors, faces=mesh.faces)
        glb.add_node("mesh", [piece])
    with results_folder(path) as folder:
        (folder / "mesh.ply").write_bytes(ply_bytes(mesh, frame, origin))
        (folder / "mesh.glb").write_bytes(glb.tobytes())
        (folder / "mesh.json").write_text(json.dumps(mesh.facts, indent=1) + "\n")


def mesh_glb(scene: SceneArrays) -> bytes:
    """The surface as binary glTF in the scene's own frame, as a viewer of that frame takes it."""
    mesh = scene_mesh(scene)
    glb = Builder(np.eye(4), np.zeros(3))
    if len(mesh.faces):
        piece = glb.primitive(mesh.vertices, TRIANGLES, colors=mesh.colors, faces=mesh.faces)
        glb.add_node("mesh", [piece])
    return glb.tobytes()


def scene_mesh(scene: SceneArrays) -> Mesh:
    """Fuse, draw, drop small pieces, color, count."""
    field = fuse(scene)
    if field is None:
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros((0, 3), int), _facts())
    vertices, faces = zero_surface(field)
    kept, dropped = without_small_pieces(vertices, faces)
    vertices, faces = _used(vertices, kept)
    colors = _colors(scene, vertices, TRUNCATION_VOXELS * field.voxel)
    facts = _facts(
        vertices=len(vertices),
        faces=len(faces),
        holes=count_holes(faces),
        faces_of_dropped_pieces=dropped,
        voxel=field.voxel,
        unit=scene.unit,
    )
    return Mesh(vertices, colors, faces, facts)


def _facts(**facts) -> dict:
    return dict(vertices=0, faces=0, holes=0) | facts


def _pieces(faces: np.ndarray, count: int) -> np.ndarray:
    """[count]: number of the connected piece that each vertex belongs to."""
    ends = np.concatenate([faces[:, :2], faces[:, 1:]])
    return _connected(ends, count)[1]


def _connected(ends: np.ndarray, count: int) -> tuple[int, np.ndarray]:
    """Pieces of a graph with edges ``ends`` [n, 2]: how many, and that of each vertex."""
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    graph = sparse.coo_array((np.ones(len(ends), bool), ends.T), shape=(count, count))
    return connected_components(graph, directed=False)


def without_small_pieces(
    vertices: Float[np.ndarray, "n 3"], faces: Integer[np.ndarray, "m 3"]
) -> tuple[Integer[np.ndarray, "k 3"], int]:
    """Faces of pieces with at least ``MIN_FACES``, and how many the others had."""
    if not len(faces):
        return faces, 0
    piece = _pieces(faces, len(vertices))[faces[:, 0]]
    large = np.bincount(piece)[piece] >= MIN_FACES
    return faces[large], int((~large).sum())


def _used(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Only the vertices that a face has."""
    used, index = np.unique(faces, return_inverse=True)
    return vertices[used], index.reshape(-1, 3)


def count_holes(faces: Integer[np.ndarray, "m 3"]) -> int:
    """Connected chains of edges that belong to one face only."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=-1)
    edges, times = np.unique(edges, axis=0, return_counts=True)
    rim = edges[times == 1]
    if not len(rim):
        return 0
    ends = np.unique(rim, return_inverse=True)[1].reshape(-1, 2)
    count = int(ends.max()) + 1
    return int(_connected(ends, count)[0])


def _colors(scene: SceneArrays, vertices: np.ndarray, tolerance: float) -> np.ndarray:
    """uint8 [n, 3]: mean color of the pixels that show each vertex, by their confidence.

    A vertex that none shows within the tolerance takes the mean over views that it lies in.
    """
    depths, pictures = depth_of_views(scene), view_colors(scene).astype(np.float64)
    total, weight = np.zeros((len(vertices), 3)), np.zeros((len(vertices), 1))
    for view in posed_views(scene):
        in_view = transform(invert_rigid(scene.world_from_cam[view]), vertices)
        pixels = project(in_view, np.asarray(scene.intrinsics[view], np.float64))
        row, column, inside = nearest_pixel(pixels, depths.shape[1:])
        shows = np.abs(depths[view][row, column] - in_view[:, 2]) < tolerance
        # The small share decides only where nothing else does.
        share = np.where(shows, scene.confidence[view][row, column], 1e-6) * inside
        total += share[:, None] * pictures[view][row, column]
        weight += share[:, None]
    return np.round(total / np.maximum(weight, 1e-12)).astype(np.uint8)


def ply_bytes(mesh: Mesh, frame: str, origin: np.ndarray) -> bytes:
    """Binary PLY with vertices ``x y z red green blue``, moved by ``origin``, and triangles.

    Vertices are float64 where the origin is not 0: float32 has no millimeters there.
    """
    kind = "<f8" if origin.any() else "<f4"
    kinds = [(axis, kind) for axis in "xyz"] + [(c, "u1") for c in ("red", "green", "blue")]
    rows = np.empty(len(mesh.vertices), kinds)
    columns = [*(mesh.vertices + origin).T, *mesh.colors.T]
    for (name, _), column in zip(kinds, columns, strict=True):
        rows[name] = column
    triangles = np.empty(len(mesh.faces), [("n", "u1"), ("v", "<i4", 3)])
    triangles["n"], triangles["v"] = 3, mesh.faces
    told = " ".join(f"{mesh.facts[name]} {name}" for name in ("faces", "holes"))
    lines = ["ply", "format binary_little_endian 1.0", f"comment {frame}", f"comment {told}"]
    lines += [f"element vertex {len(rows)}"]
    lines += [f"property {PLY_TYPES[k]} {name}" for name, k in kinds]
    lines += [f"element face {len(triangles)}", "property list uchar int vertex_indices"]
    header = "\n".join([*lines, "end_header"]) + "\n"
    return header.encode("ascii") + rows.tobytes() + triangles.tobytes()
