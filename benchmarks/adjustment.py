"""What COLMAP's bundle adjustment makes of the exported model: errors before and after.

    python -m benchmarks.adjustment [--weights small]

The example's room, whose cameras are known. "noise": true cameras, true depth with Gaussian noise
of that share; "network": a reconstruction. The model is the one that ``--export colmap`` writes,
without points that one view sees alone; Cauchy loss of one network pixel, intrinsics fixed.
Prints a table and writes benchmarks/results/adjustment.json.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pycolmap

from benchmarks.machine import write_results
from mvdust3r_jax import load_model, reconstruct
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.export.colmap import write_colmap
from mvdust3r_jax.metrics.poses import pair_errors
from mvdust3r_jax.reconstruction.scene import Scene

ROOM = Path(__file__).parents[1] / "examples" / "room"
SCALE = 2  # the photographs are as many times as large as the images of the truth


def true_scene(noise: float, seed: int = 0) -> Scene:
    """The room with its true cameras, depth with noise of this share."""
    truth = np.load(ROOM / "truth.npz")
    images, depth = (truth[name][:8].astype(np.float64) for name in ("images", "depth_m"))
    k, poses = truth["intrinsics"][:8].astype(np.float64), truth["world_from_cam"][:8]
    world_from_cam = np.linalg.inv(poses[0].astype(np.float64)) @ poses
    views, height, width = depth.shape
    v, u = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    rays = np.einsum("vij,hwj->vhwi", np.linalg.inv(k), np.stack([u, v, np.ones_like(u)], -1))
    noisy = depth * (1 + noise * np.random.default_rng(seed).normal(size=depth.shape))
    points = np.einsum("vij,vhwj->vhwi", world_from_cam[:, :3, :3], rays * noisy[..., None])
    original = np.diag([SCALE, SCALE, 1.0]) @ k
    original[:, :2, 2] += (SCALE - 1) / 2
    return Scene(
        images_01=(images / max(images.max(), 1)).astype(np.float32),
        points=(points + world_from_cam[:, None, None, :3, 3]).astype(np.float32),
        confidence=np.ones(depth.shape, np.float32),
        gaussians=None,
        world_from_cam=world_from_cam.astype(np.float32),
        pose_ok=np.ones(views, bool),
        intrinsics=k.astype(np.float32),
        original_intrinsics=original.astype(np.float32),
        original_sizes=np.tile([SCALE * height, SCALE * width], (views, 1)),
        names=[f"{i:02d}.jpg" for i in range(views)],
        masks=depth > 0,
    )


def adjusted(scene: Scene) -> tuple[np.ndarray, int]:
    """Poses [V, 4, 4] after bundle adjustment, and how many points it held on to."""
    with tempfile.TemporaryDirectory() as folder:
        write_colmap(Path(folder) / "model", scene)
        model = pycolmap.Reconstruction(Path(folder) / "model" / "sparse" / "0")
    for name, point in list(model.points3D.items()):
        if point.track.length() < 2:
            model.delete_point3D(name)
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_focal_length = options.refine_extra_params = options.print_summary = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    # A pixel of the network's images.
    options.ceres.loss_function_scale = scene.original_sizes[0, 0] / scene.points.shape[1]
    pycolmap.bundle_adjustment(model, options)
    poses = [model.images[i + 1].cam_from_world().matrix() for i in range(len(scene.names))]
    return np.linalg.inv([np.vstack([pose, [0, 0, 0, 1]]) for pose in poses]), len(model.points3D)


def errors(world_from_cam: np.ndarray) -> tuple[float, float]:
    """Mean over pairs of views: rotation and direction of translation, degrees."""
    truth = np.load(ROOM / "truth.npz")["world_from_cam"][:8]
    found = pair_errors(np.float32(world_from_cam), np.float32(truth), np.ones(len(truth), bool))
    return float(np.mean(found.rotation_deg)), float(np.mean(found.translation_deg))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--weights", default="small")
    args = parser.parse_args()
    photographs = sorted((ROOM / "photographs").iterdir())
    scenes = {f"noise {noise:.0%}": true_scene(noise) for noise in (0.0, 0.01, 0.03)}
    scenes["network"] = reconstruct(photographs, load_model(args.weights))
    names = ("scene", "points", "rotation deg", "after", "translation deg", "after")
    print(tables.head(names))
    rows = []
    for name, scene in scenes.items():
        poses, points = adjusted(scene)
        before, after = errors(scene.world_from_cam), errors(poses)
        rows.append({"scene": name, "points": points, "before": before, "after": after})
        shown = [before[0], after[0], before[1], after[1]]
        print(tables.row([name, str(points), *(f"{x:.2f}" for x in shown)]), flush=True)
    write_results("adjustment", {"weights": args.weights, "scenes": rows})


if __name__ == "__main__":
    main()
