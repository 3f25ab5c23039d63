"""One photograph at another zoom: is its focal length found, and is it left alone elsewhere?

    python -m benchmarks.focals [--rooms 10] [--weights weights/small.safetensors]

Generated rooms of test seeds, six views of 64x64, the fifth at another zoom (the middle of its
pointmap, enlarged); true points with noise, or with ``--weights`` a network's for such photographs.
Prints a table and writes benchmarks/results/focals.json. "found": zoomed views that get a focal
length of their own; "wrongly": other views that do.
"""

from __future__ import annotations

import argparse

import jax.numpy as jnp
import numpy as np
from PIL import Image

from benchmarks.machine import of_settings, write_results
from benchmarks.pose import SPLITS, errors, ground_truth, perturbed, sample_batch
from mvdust3r_jax import load_model, reconstruct
from mvdust3r_jax.cameras import focals, from_pointmaps
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.types import images_01_from

VIEWS, SIZE, ZOOMED = 6, 64, 4
# Name -> noise, share of outliers, whether the noise is smooth over the image.
CASES = {
    "exact": (0.0, 0.0, False),
    "noise 3 %, 5 % outliers": (0.03, 0.05, False),
    "noise 10 %, 5 % outliers": (0.1, 0.05, False),
    "smooth errors 5 %": (0.05, 0.0, True),
    "smooth errors 15 %": (0.15, 0.0, True),
}
ZOOMS = (1.25, 1.5, 2.0)


def zoomed(image: np.ndarray, zoom: float) -> np.ndarray:
    """The middle of [SIZE, SIZE, c], enlarged to the same size (bilinear, about the middle)."""
    middle = (SIZE - 1) / 2
    place = (np.arange(SIZE) - middle) / zoom + middle
    low = np.clip(np.floor(place).astype(int), 0, SIZE - 2)
    share = place - low
    rows = image[low] * (1 - share)[:, None, None] + image[low + 1] * share[:, None, None]
    return rows[:, low] * (1 - share)[None, :, None] + rows[:, low + 1] * share[None, :, None]


def judged(points, confidence, focal_px, center, poses, truth, zoom) -> dict[str, np.ndarray]:
    """Of one room: factors found, and errors of the zoomed view's pose before and after."""
    center = jnp.tile(jnp.asarray(center, jnp.float32)[None], (VIEWS, 1))
    found = focals.own_focals(points, confidence, jnp.float32(focal_px), poses, center)
    own, factor = np.asarray(found.own), np.asarray(found.factor)
    after = np.where(own[ZOOMED], found.ref_from_cam[ZOOMED], poses[ZOOMED])
    angles = [float(errors(p[None], truth[ZOOMED][None])[0][0]) for p in (poses[ZOOMED], after)]
    others = np.delete(own, [0, ZOOMED])
    return {"factor": factor[ZOOMED] / zoom, "own": own[ZOOMED], "others": others, "deg": angles}


def row(name: str, zoom: float, rooms: list[dict]) -> dict[str, float | str]:
    low, middle, high = np.quantile([r["factor"] for r in rooms], [0.1, 0.5, 0.9])
    before, after = np.median([r["deg"] for r in rooms], axis=0)
    return {
        "points": name,
        "zoom": zoom,
        "focal_of_true_p10": float(low),
        "focal_of_true_median": float(middle),
        "focal_of_true_p90": float(high),
        "found": float(np.mean([r["own"] for r in rooms])),
        "wrongly": float(np.mean([r["others"] for r in rooms])),
        "deg_before": float(before),
        "deg_after": float(after),
    }


def true_points(batch, truth, case: str, zoom: float) -> dict[str, float | str]:
    """Poses from disturbed true points with the common focal length, then with its own."""
    noise, outliers, smooth = CASES[case]
    rng, rooms = np.random.default_rng(0), []
    center = np.asarray(batch.intrinsics[0, 0, :2, 2])
    for n in range(len(batch.images)):
        points = perturbed(np.asarray(truth.points[n]), noise, outliers, rng, smooth).copy()
        confidence = (np.asarray(batch.depth_m[n]) > 0).astype(np.float32)
        points[ZOOMED] = zoomed(points[ZOOMED], zoom)
        confidence[ZOOMED] = zoomed(confidence[ZOOMED][..., None], zoom)[..., 0] > 0.99
        focal_px = float(batch.intrinsics[n, 0, 0, 0])
        poses = from_pointmaps.poses_from_pointmaps(
            points[:, None],
            confidence[:, None],
            jnp.full(VIEWS, focal_px),
            principal_px=jnp.tile(jnp.asarray(center)[None, None], (VIEWS, 1, 1)),
        )
        poses = np.asarray(poses.ref_from_cam[:, 0])
        true = np.asarray(truth.ref_from_cam[n])
        rooms.append(judged(points, confidence, focal_px, center, poses, true, zoom))
    return row(case, zoom, rooms)


def network_points(batch, truth, weights: str, zoom: float) -> dict[str, float | str]:
    """The same for the points of a network."""
    model, rooms = load_model(weights), []
    pictures = np.uint8(np.clip(images_01_from(np.asarray(batch.images)), 0, 1) * 255)
    for n, images in enumerate(pictures):
        edge = (SIZE - SIZE / zoom) / 2
        box = (edge, edge, SIZE - edge, SIZE - edge)
        part = Image.fromarray(images[ZOOMED]).resize((SIZE, SIZE), Image.Resampling.LANCZOS, box)
        given = [*images[:ZOOMED], np.asarray(part), *images[ZOOMED + 1 :]]
        scene = reconstruct(given, model, focal_px="one")
        confidence = np.where(scene.masks, scene.confidence, 0)
        focal_px, center = scene.intrinsics[0, 0, 0], scene.intrinsics[0, :2, 2]
        true = np.asarray(truth.ref_from_cam[n])
        poses = scene.world_from_cam
        rooms.append(judged(scene.points, confidence, focal_px, center, poses, true, zoom))
    return row("network", zoom, rooms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rooms", type=int, default=10)
    parser.add_argument("--weights", help="also with the points of this network")
    args = parser.parse_args()
    seeds = (np.arange(args.rooms) + SPLITS["test"][0]).astype(np.uint32)
    batch = sample_batch(seeds, VIEWS, 0, SIZE, SIZE)
    truth = ground_truth(batch, VIEWS, jnp.zeros(args.rooms, jnp.int32))
    rows = [true_points(batch, truth, case, zoom) for case in CASES for zoom in ZOOMS]
    if args.weights:
        rows += [network_points(batch, truth, args.weights, zoom) for zoom in (1.0, *ZOOMS)]
    cells = [[f"{v:.2f}" if isinstance(v, float) else v for v in r.values()] for r in rows]
    print(tables.table(tuple(rows[0]), cells))
    told = vars(args)
    write_results(of_settings("focals", told), {"settings": told, "rows": rows})


if __name__ == "__main__":
    main()
