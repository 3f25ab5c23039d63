"""Round trips of the export formats on an exact scene: what another program reads back.

    python -m benchmarks.exports [--views 6] [--height 168] [--width 224]

The scene is the textured box room of the tests (exact depth and cameras, photographs three times
as large as the network's images). Prints a table and writes benchmarks/results/exports.json.
Seconds are one run each; the renderer is compiled before its column is taken.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import plyfile
import pycolmap
import trimesh

from benchmarks.machine import write_results
from mvdust3r_jax import export
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.export import drawing, gaussians, splat_ply
from tests.export_scene import box_room


def read_ply(path, scene):
    vertex = plyfile.PlyData.read(path)["vertex"]
    points = np.stack([vertex[axis] for axis in "xyz"], axis=-1)
    return "plyfile", "largest point difference", np.abs(points - scene.points[scene.masks]).max()


def read_glb(path, scene):
    points = trimesh.load(path).geometry["points"].vertices * [1, -1, -1]
    return "trimesh", "largest point difference", np.abs(points - scene.points[scene.masks]).max()


def read_splats(path, scene):
    where = scene.world_from_cam[:1], scene.intrinsics[0], *scene.points.shape[1:3]
    (direct,) = drawing.render(gaussians.gaussian_cloud(scene), *where)
    (again,) = drawing.render(splat_ply.read_gaussian_cloud(path), *where)
    return "this package", "largest pixel difference, rendered", np.abs(direct - again).max()


def read_colmap(path, scene):
    model = pycolmap.Reconstruction(path / "sparse" / "0")
    errors = [
        np.linalg.norm(image.project_point(model.points3D[seen.point3D_id].xyz) - seen.xy)
        for image in model.images.values()
        for seen in image.points2D
    ]
    return "pycolmap", "99 % of reprojection errors below, px", np.quantile(errors, 0.99)


def read_nerfstudio(path, scene):
    content = json.loads((path / "transforms.json").read_text())
    frame = content["frames"][-1]
    seeds = trimesh.load(path / content["ply_file_path"]).vertices[-scene.masks[-1].sum() :]
    camera = np.linalg.inv(frame["transform_matrix"])
    x, y, z = (seeds @ camera[:3, :3].T + camera[:3, 3]).T
    row, column = np.nonzero(scene.masks[-1])
    u = frame["fl_x"] * x / -z + frame["cx"] - 3 * (column + 0.5) - 18
    v = frame["fl_y"] * -y / -z + frame["cy"] - 3 * (row + 0.5)
    return "own projection", "largest reprojection error, px", np.hypot(u, v).max()


READERS = {
    "ply": read_ply,
    "glb": read_glb,
    "3dgs": read_splats,
    "colmap": read_colmap,
    "nerfstudio": read_nerfstudio,
    "cameras": None,
    "preview": None,
    "depth": None,
    "mesh": None,
    "html": None,
}


def size_of(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("views", 6), ("height", 168), ("width", 224)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    scene = box_room(args.views, args.height, args.width)
    rows = []
    print(tables.head(("format", "seconds", "MB", "read by", "measure", "value")))
    with tempfile.TemporaryDirectory() as folder:
        for name, read in READERS.items():
            start = time.perf_counter()
            (path,) = export.write(scene, folder, [name], export.PointFilter(drop_share=0))
            row = {"format": name, "seconds": time.perf_counter() - start}
            row["megabytes"] = size_of(path) / 1e6
            reader, measure, value = read(path, scene) if read else ("", "", float("nan"))
            row |= {"reader": reader, "measure": measure, "value": float(value) if read else None}
            rows.append(row)
            shown = f"{value:.2g}" if read else ""
            times = [f"{row['seconds']:.2f}", f"{row['megabytes']:.2f}"]
            print(tables.row([name, *times, reader, measure, shown]), flush=True)
    content = {"scene": vars(args), "points": int(scene.masks.sum())}
    write_results("exports", content | {"formats": rows})


if __name__ == "__main__":
    main()
