"""The 3DGS point-cloud file: what Gaussian-splat viewers and trainers read.

One vertex per Gaussian, all ``float`` (``x y z`` are ``double`` in a world far from its origin):
``x y z nx ny nz f_dc_0..2 f_rest_* opacity scale_0..2 rot_0..3``. Stored before activation: opacity
as logit, scales as natural logarithm, rotation wxyz, color as SH coefficients (``f_rest``
channel-major: all of red, then green, then blue). World frame as in the scene: the reference
camera's (x right, y down, z forward) or that of known poses.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mvdust3r_jax.export.cloud import PLY_TYPES, ply_header
from mvdust3r_jax.export.gaussians import GaussianCloud, gaussian_cloud
from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# Keeps the logit finite: float32 cannot tell opacities nearer to 0 or 1 than this.
OPACITY_EDGE = 1e-6
# Bytes of header searched before the file is called something else.
_MAX_HEADER = 1 << 16


def write_splat_ply(path: str | Path, scene: SceneArrays) -> None:
    """Write the scene's Gaussians (or stand-in surfels) in the layout above."""
    write_gaussian_cloud(path, gaussian_cloud(scene))


def property_names(num_coefficients: int) -> list[str]:
    """The file's columns for ``K`` SH coefficients."""
    rest = [f"f_rest_{i}" for i in range(3 * (num_coefficients - 1))]
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest, "opacity"]
    return names + [f"scale_{i}" for i in range(3)] + [f"rot_{i}" for i in range(4)]


def write_gaussian_cloud(path: str | Path, cloud: GaussianCloud) -> None:
    """Write activated Gaussians; opacities are cut to [1e-6, 1 - 1e-6] to have a logit."""
    count, coefficients = cloud.sh.shape[:2]
    opacity = np.clip(cloud.opacities.astype(np.float64), OPACITY_EDGE, 1 - OPACITY_EDGE)
    columns = [
        np.zeros((count, 3)),
        cloud.sh[:, 0],
        np.swapaxes(cloud.sh[:, 1:], 1, 2).reshape(count, 3 * (coefficients - 1)),
        (np.log(opacity) - np.log1p(-opacity))[:, None],
        np.log(cloud.scales.astype(np.float64)),
        cloud.rotations,
    ]
    names = property_names(coefficients)
    place = "<f8" if cloud.means.dtype == np.float64 else "<f4"
    table = np.empty(count, _layout(names, place))
    table["place"], table["rest"] = cloud.means, np.concatenate(columns, axis=1)
    kinds = [(name, PLY_TYPES[place if name in "xyz" else "<f4"]) for name in names]
    header = ply_header(count, kinds, [])
    with whole_file(path) as partial:
        partial.write_bytes(header + table.tobytes())


def _layout(names: list[str], place: str) -> np.dtype:
    """Of one vertex: x, y, z of the given type, the rest float."""
    return np.dtype([("place", place, 3), ("rest", "<f4", len(names) - 3)])


def read_gaussian_cloud(path: str | Path) -> GaussianCloud:
    """Read such a file back, activated. Raises ValueError for any other layout."""
    data = Path(path).read_bytes()
    end = data.find(b"end_header\n", 0, _MAX_HEADER)
    if not data.startswith(b"ply\n") or end < 0:
        raise ValueError(f"{path} is not a PLY file")
    lines = data[:end].decode("ascii", "replace").split("\n")
    if "format binary_little_endian 1.0" not in lines:
        raise ValueError(f"{path}: binary little-endian is expected, got {lines[1]!r}")
    count = next((int(s.split()[2]) for s in lines if s.startswith("element vertex ")), 0)
    listed = [line.split()[1:] for line in lines if line.startswith("property ")]
    names = [words[-1] for words in listed]
    place = "<f8" if listed and listed[0][0] == "double" else "<f4"
    coefficients = 1 + sum(name.startswith("f_rest_") for name in names) // 3
    if names != property_names(coefficients):
        raise ValueError(f"{path}: columns are {names}, expected {property_names(coefficients)}")
    body = data[end + len(b"end_header\n") :]
    layout = _layout(names, place)
    if len(body) != layout.itemsize * count:
        raise ValueError(f"{path}: {len(body)} bytes for {count} x {len(names)} numbers")
    table = np.frombuffer(body, layout)
    means = table["place"]
    _, first, rest, opacity, scales, rotations = np.split(
        table["rest"], np.cumsum([3, 3, 3 * (coefficients - 1), 1, 3]), axis=1
    )
    rest = np.swapaxes(rest.reshape(count, 3, coefficients - 1), 1, 2)
    return GaussianCloud(
        means=means,
        rotations=rotations / np.linalg.norm(rotations, axis=1, keepdims=True),
        scales=np.exp(scales),
        opacities=1 / (1 + np.exp(-opacity[:, 0])),
        sh=np.concatenate([first[:, None], rest], axis=1),
    )
