"""Our poses against OpenCV's on pointmaps of procedural rooms: accuracy under noise, and time.

    python -m benchmarks.pose [--scenes 10] [--size 64] [--views 8]
    python -m benchmarks.pose --large             # 24 views x 224 x 224 points in one call
    python -m benchmarks.pose --weights WEIGHTS   # on the pointmaps of a network

Every case perturbs exact pointmaps in the reference frame: Gaussian noise of a share of each
point's depth, 30 % of the points anywhere in the room, a focal length that is 10 % too long.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import of_settings, write_results
from data.rooms import SPLITS, sample_batch
from mvdust3r_jax.cameras import from_pointmaps
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.evaluation.estimate import add_poses, ground_truth
from mvdust3r_jax.evaluation.networks import predict as predict_path
from mvdust3r_jax.geometry.transforms import rotation_angle_deg
from mvdust3r_jax.metrics.poses import pair_errors
from mvdust3r_jax.weights.files import load_weights

# Noise as a share of depth, share of outliers, factor on the focal length.
CASES = {
    "exact": (0.0, 0.0, 1.0),
    "noise 1 %": (0.01, 0.0, 1.0),
    "noise 1 %, 30 % outliers": (0.01, 0.3, 1.0),
    "noise 1 %, 30 % outliers, focal +10 %": (0.01, 0.3, 1.1),
    "noise 3 %, 30 % outliers": (0.03, 0.3, 1.0),
    "noise 3 %, 30 % outliers, focal +10 %": (0.03, 0.3, 1.1),
    "noise 5 %, 50 % outliers": (0.05, 0.5, 1.0),
}
# Cases whose errors vary smoothly over each image, as a network's do.
SMOOTH_CASES = {
    "smooth errors 5 %": (0.05, 0.0, 1.0),
    "smooth errors 15 %, focal +10 %": (0.15, 0.0, 1.1),
    "smooth errors 40 %, 10 % outliers": (0.4, 0.1, 1.0),
}


def smooth_noise(shape, rng):
    """Unit normal noise on a grid of 4 x 4 knots, interpolated."""
    views, height, width, _ = shape
    knots = rng.normal(size=(views, 4, 4, 3)).astype(np.float32)
    return np.stack([cv2.resize(k, (width, height), interpolation=cv2.INTER_CUBIC) for k in knots])


def perturbed(points, noise, outliers, rng, smooth=False):
    depth = np.linalg.norm(points, axis=-1, keepdims=True)
    error = smooth_noise(points.shape, rng) if smooth else rng.normal(size=points.shape)
    points = points + noise * depth * error
    wild = rng.random(points.shape[:-1]) < outliers
    low, high = points.min(axis=(0, 1, 2)), points.max(axis=(0, 1, 2))
    points[wild] = rng.uniform(low, high, (wild.sum(), 3))
    return points.astype(np.float32)


def opencv_pose(points, focal_px, center):
    """The release's call: solvePnPRansac, SQPNP, 100 iterations, 5 pixels."""
    height, width = points.shape[:2]
    intrinsics = np.array([[focal_px, 0, center[0]], [0, focal_px, center[1]], [0, 0, 1]])
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    ok, axis_angle, translation, _ = cv2.solvePnPRansac(
        points.reshape(-1, 3).astype(np.float64),
        grid.reshape(-1, 2).astype(np.float64),
        intrinsics,
        None,
        iterationsCount=100,
        reprojectionError=5,
        flags=cv2.SOLVEPNP_SQPNP,
    )
    cam_from_ref = np.eye(4)
    if ok:
        cam_from_ref[:3, :3], cam_from_ref[:3, 3] = cv2.Rodrigues(axis_angle)[0], translation[:, 0]
    return np.linalg.inv(cam_from_ref)


def errors(found, truth):
    angle = rotation_angle_deg(jnp.asarray(found[..., :3, :3]), jnp.asarray(truth[..., :3, :3]))
    return np.asarray(angle), np.linalg.norm(found[..., :3, 3] - truth[..., :3, 3], axis=-1)


def rooms(scenes, views, size):
    """Exact pointmaps, true poses, focal lengths, and the principal point of all views."""
    seeds = np.arange(scenes, dtype=np.uint32) + SPLITS["test"][0]
    batch = sample_batch(seeds.astype(np.uint32), views, 0, size, size)
    truth = ground_truth(batch, views, jnp.zeros(scenes, jnp.int32))
    parts = (truth.points, truth.ref_from_cam, batch.intrinsics[:, 0, 0, 0])
    parts += (batch.intrinsics[0, 0, :2, 2],)
    return tuple(np.asarray(x) for x in parts)


def compare(scenes, views, size):
    points, truth, focal_px, center = rooms(scenes, views, size)
    rows = []
    for name, (noise, outliers, factor) in (CASES | SMOOTH_CASES).items():
        rng, smooth = np.random.default_rng(0), name in SMOOTH_CASES
        noisy = np.stack([perturbed(p, noise, outliers, rng, smooth) for p in points])
        focals = (focal_px * factor).astype(np.float32)
        ones = np.ones(noisy.shape[:-1], np.float32)
        for _ in range(2):  # the second one without compilation
            start = time.perf_counter()
            found = jax.block_until_ready(
                from_pointmaps.poses_from_pointmaps(noisy, ones, focals, principal_px=center)
            )
            ours_s = (time.perf_counter() - start) / scenes
        start = time.perf_counter()
        oracle = [
            [opencv_pose(p, f, center) for p in scene]
            for scene, f in zip(noisy, focals, strict=True)
        ]
        theirs_s = (time.perf_counter() - start) / scenes
        mine = errors(np.asarray(found.ref_from_cam), truth)
        other = errors(np.array(oracle, np.float32), truth)
        row = {"case": name, "ok_share": float(np.mean(found.ok))}
        for label, (angle, distance), seconds in (("jax", mine, ours_s), ("cv2", other, theirs_s)):
            row |= {
                f"{label}_deg_median": float(np.nanmedian(angle)),
                f"{label}_deg_p90": float(np.nanquantile(angle, 0.9)),
                f"{label}_m_median": float(np.nanmedian(distance)),
                f"{label}_m_p90": float(np.nanquantile(distance, 0.9)),
                f"{label}_s_per_scene": seconds,
            }
        rows.append(row)
    return rows


def large():
    """24 views x 224 x 224 points in one call."""
    points, truth, focal_px, center = rooms(1, 24, 224)
    rng = np.random.default_rng(0)
    noisy = perturbed(points[0], 0.01, 0.3, rng)[None]
    ones = np.ones(noisy.shape[:-1], np.float32)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        found = jax.block_until_ready(
            from_pointmaps.poses_from_pointmaps(noisy, ones, focal_px, principal_px=center)
        )
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    oracle = np.array([opencv_pose(p, focal_px[0], center) for p in noisy[0]], np.float32)
    theirs_s = time.perf_counter() - start
    angle, distance = errors(np.asarray(found.ref_from_cam), truth)
    cv_angle, cv_distance = errors(oracle[None], truth)
    return {
        "case": "24 views x 224 x 224, noise 1 %, 30 % outliers",
        "jax_s": float(np.median(seconds[1:])),
        "jax_first_call_s": seconds[0],
        "cv2_s": theirs_s,
        "jax_deg_median": float(np.median(angle)),
        "cv2_deg_median": float(np.median(cv_angle)),
        "jax_m_median": float(np.median(distance)),
        "cv2_m_median": float(np.median(cv_distance)),
    }


def network_output(weights, scenes, views, size):
    """Relative pose errors (degrees) of both on the pointmaps of a network, pairs of views.

    Medians over all pairs, and their difference with a 95 % interval bootstrapped over rooms.
    """
    config, variables = load_weights(weights)
    seeds = (np.arange(scenes, dtype=np.int64) + SPLITS["test"][0]).astype(np.uint32)
    batch = sample_batch(seeds, views, 0, size, size)
    predict = jax.jit(partial(predict_path, config=config, num_inputs=views, num_refs=4))
    prediction = predict(variables, batch)
    estimate = jax.jit(add_poses)(prediction, batch, jnp.zeros(scenes, jnp.int32))
    truth = ground_truth(batch, views, jnp.zeros(scenes, jnp.int32)).ref_from_cam
    center = np.asarray(batch.intrinsics[0, 0, :2, 2])
    oracle = [
        [opencv_pose(p, float(f), center) for p in scene]
        for scene, f in zip(np.asarray(prediction.points), estimate.focal_px, strict=True)
    ]
    everything = jnp.ones((scenes, views), bool)
    row = {"ok_share": float(estimate.pose_ok.mean())}
    both = [
        pair_errors(poses, truth, everything)
        for poses in (estimate.ref_from_cam, jnp.array(oracle, jnp.float32))
    ]
    drawn = np.random.default_rng(0).integers(0, scenes, (2000, scenes))
    for name, field in (("rre", "rotation_deg"), ("rte", "translation_deg")):
        mine, other = (np.asarray(getattr(found, field)) for found in both)
        row[f"jax_{name}_deg_median"] = float(np.nanmedian(mine))
        row[f"cv2_{name}_deg_median"] = float(np.nanmedian(other))
        differences = [np.nanmedian(mine[d]) - np.nanmedian(other[d]) for d in drawn]
        row[f"{name}_difference_deg"] = [float(x) for x in np.quantile(differences, [0.025, 0.975])]
    return row


def print_row(row):
    for name, value in row.items():
        print(f"{name:22} {value}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=10)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--weights", help="compare on this network's pointmaps")
    args = parser.parse_args()
    if args.large or args.weights:
        counts = args.scenes, args.views, args.size
        row = large() if args.large else network_output(args.weights, *counts)
        print_row(row)
        names = dict(zip(("rooms", "views", "size"), counts, strict=True))
        told = {} if args.large else {"weights": Path(args.weights).stem, **names}
        name = of_settings("pose_large" if args.large else "pose_network", told)
        write_results(name, {"settings": told, **row})
        return
    rows = compare(args.scenes, args.views, args.size)

    def pair(row, name, digits):
        return [f"{row[f'{who}_{name}']:.{digits}f}" for who in ("jax", "cv2")]

    cells = [
        [r["case"], f"{100 * r['ok_share']:.1f}"]
        + [*pair(r, "deg_median", 4), *pair(r, "m_median", 5), *pair(r, "s_per_scene", 3)]
        for r in rows
    ]
    names = ("case", "ok %", "deg jax", "deg cv2", "m jax", "m cv2", "s jax", "s cv2")
    print(tables.table(names, cells))
    told = vars(args)
    write_results(of_settings("pose", told), {"settings": told, "rows": rows})


if __name__ == "__main__":
    main()
