"""Refining cameras on matched features: pose and point errors before and after, generated rooms.

    python -m benchmarks.refine [--rooms 20 --noise 0,0.01,0.03,0.1 --weights room_mvd]

Photographs of 384 x 384 pixels, eight a room, none of which the network was trained on; points at
the network's size. "noise 0": true cameras and points. Other noise: true points with errors that
vary smoothly over each image (a grid of 4 x 4 knots), of that share of a point's distance, and the
cameras that these points give; the focal length is known in both. "network": a reconstruction from
the default reference. Errors are means over pairs of views (`metrics.poses`) and ND
(`metrics.pointmaps`), in the frame of the reference; last the means of ND, and their difference
with its 95 % interval over rooms.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import numpy as np
from scipy.ndimage import zoom

from benchmarks.machine import of_settings, write_results
from data.rooms import SPLITS, sample_trajectory
from mvdust3r_jax import load_model, reconstruct
from mvdust3r_jax.cameras.feature_tracks import Tracks
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.evaluation.summary import interval
from mvdust3r_jax.metrics.pointmaps import point_errors
from mvdust3r_jax.metrics.poses import pair_errors
from mvdust3r_jax.reconstruction.refine import find_tracks, refine_on
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.reconstruction.scene_cameras import camera_programs, find_cameras
from mvdust3r_jax.types import images_01_from

VIEWS, SIZE = 8, 384
# Constants of the refinement were chosen on rooms from 1,000 on.
FIRST_SEED = SPLITS["test"][0] + 1100
NAMES = ("rotation_deg", "translation_deg", "nd_m")


def true_scene(room: int, network_size: int) -> Scene:
    """A room with its true cameras and points; ``images_01`` are the photographs' own pixels."""
    step = SIZE // network_size
    sample = sample_trajectory(FIRST_SEED + room, VIEWS, 0, SIZE, SIZE)
    images, depth, poses, k = (np.asarray(x, np.float64) for x in vars(sample).values())
    world_from_cam = np.linalg.inv(poses[0]) @ poses
    v, u = np.mgrid[:SIZE, :SIZE]
    rays = np.einsum("vij,hwj->vhwi", np.linalg.inv(k), np.stack([u, v, np.ones_like(u)], -1))
    points = np.einsum("vij,vhwj->vhwi", world_from_cam[:, :3, :3], rays * depth[..., None])
    points += world_from_cam[:, None, None, :3, 3]
    # The middle of a network's pixel is the photograph's in its middle, or between two of them.
    blocks = points.reshape(VIEWS, network_size, step, network_size, step, 3)
    middle = slice((step - 1) // 2, step // 2 + 1)
    small = np.diag([1 / step, 1 / step, 1.0]) @ k
    small[:, :2, 2] -= (step - 1) / 2 / step
    return Scene(
        images_01=images_01_from(images).astype(np.float32),
        points=blocks[:, :, middle, :, middle].mean(axis=(2, 4)).astype(np.float32),
        confidence=np.ones((VIEWS, network_size, network_size), np.float32),
        gaussians=None,
        world_from_cam=world_from_cam.astype(np.float32),
        pose_ok=np.ones(VIEWS, bool),
        intrinsics=small.astype(np.float32),
        original_intrinsics=k.astype(np.float32),
        original_sizes=np.tile([SIZE, SIZE], (VIEWS, 1)),
        names=[f"{i:02d}.png" for i in range(VIEWS)],
        masks=np.ones((VIEWS, network_size, network_size), bool),
    )


def noisy_scene(truth: Scene, noise: float, room: int, programs) -> Scene:
    """True points with smooth errors, and the cameras that are found in them."""
    knots = np.random.default_rng([room, round(1000 * noise)]).normal(size=(VIEWS, 4, 4, 3))
    size = truth.points.shape[1]
    error = zoom(knots, (1, size / 4, size / 4, 1), order=3, grid_mode=False)
    centers = truth.world_from_cam[:, None, None, :3, 3]
    distance = np.linalg.norm(truth.points - centers, axis=-1, keepdims=True)
    points = (truth.points + noise * distance * error).astype(np.float32)
    found = find_cameras(programs, points, truth.confidence, truth.intrinsics, "known", 0)
    fields = vars(truth) | dict(points=points, world_from_cam=found[1], pose_ok=found[2])
    return Scene(**fields)


def seen_from(truth: Scene, view: int) -> Scene:
    """The truth in the frame of another view."""
    world_from_cam = truth.world_from_cam.astype(np.float64)
    new_from_old = np.linalg.inv(world_from_cam[view])
    points = truth.points @ new_from_old[:3, :3].T + new_from_old[:3, 3]
    poses = new_from_old @ world_from_cam
    fields = dict(points=points.astype(np.float32), world_from_cam=poses.astype(np.float32))
    return dataclasses.replace(truth, **fields)


def errors(scene: Scene, truth: Scene) -> list[float]:
    """Rotation and direction of translation in degrees, ND in meters."""
    truth = seen_from(truth, scene.reference)
    found = pair_errors(scene.world_from_cam, truth.world_from_cam, scene.pose_ok)
    nd = point_errors(scene.points, truth.points, truth.masks).nd
    return [float(np.nanmean(x)) for x in (found.rotation_deg, found.translation_deg, nd)]


def measured(scene: Scene, truth: Scene, tracks: Tracks, keep_focal: bool) -> dict:
    """One scene before and after."""
    begin = time.process_time()
    refined = refine_on(scene, tracks, keep_focal=keep_focal)
    told = refined.refinement
    return {
        "before": errors(scene, truth),
        "after": errors(refined, truth),
        "views": sum(told.refined),
        "tracks": told.tracks,
        "error_px": told.error_px,
        "why": told.why,
        "cpu_s": time.process_time() - begin,
    }


def measure(room: int, noises: list[float], model, programs) -> dict[str, dict]:
    """All cases of one room."""
    truth = true_scene(room, model.image_size[0])
    photographs = list(np.uint8(np.rint(255 * truth.images_01)))
    begin = time.process_time()
    tracks = find_tracks(truth, photographs)
    seconds, cases = time.process_time() - begin, {}
    for noise in noises:
        scene = noisy_scene(truth, noise, room, programs) if noise else truth
        cases[f"noise {noise:.0%}"] = measured(scene, truth, tracks, keep_focal=True)
    scene = reconstruct(photographs, model)
    cases["network"] = measured(scene, truth, find_tracks(scene, photographs), keep_focal=False)
    return {name: case | {"matching_cpu_s": seconds} for name, case in cases.items()}


def summary(name: str, cases: list[dict]) -> list[str]:
    """A row: medians of each error before and after, then how many rooms were what."""
    before, after = (np.array([case[when] for case in cases]) for when in ("before", "after"))
    refined = np.array([case["views"] > 0 for case in cases])
    cells = [name, f"{refined.sum()} of {len(cases)}"]
    for i in range(len(NAMES)):
        cells += [f"{np.median(before[:, i]):.3g}", f"{np.median(after[:, i]):.3g}"]
        # A hundredth of a degree or of a meter is no difference.
        change = after[:, i] - before[:, i]
        cells.append(f"{(change < -0.01).sum()} / {(change > 0.01).sum()}")
    nd = NAMES.index("nd_m")
    means = f"{before[:, nd].mean():.3f}, {after[:, nd].mean():.3f}"
    return [*cells, means, "{:+.3f} [{:+.3f}, {:+.3f}]".format(*interval((after - before)[:, nd]))]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rooms", type=int, default=20)
    parser.add_argument("--noise", default="0,0.01,0.03,0.1")
    parser.add_argument("--weights", default="room_mvd")
    args = parser.parse_args()
    model, noises = load_model(args.weights), [float(x) for x in args.noise.split(",")]
    programs = camera_programs(VIEWS, *model.image_size, "known")
    rows: dict[str, list[dict]] = {}
    heads = [f"{name} {when}" for name in NAMES for when in ("before", "after", "better / worse")]
    heads += ["mean nd_m before, after", "difference"]
    for room in range(args.rooms):
        for name, case in measure(room, noises, model, programs).items():
            rows.setdefault(name, []).append(case)
        print(f"{room + 1} rooms", flush=True)
    told = vars(args)
    write_results(of_settings("refine", told), {"settings": told, "cases": rows})
    cells = [summary(name, cases) for name, cases in rows.items()]
    print(tables.table(["scene", "refined", *heads], cells))


if __name__ == "__main__":
    main()
