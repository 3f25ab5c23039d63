"""What bfloat16 products cost in accuracy, with a trained network: points, poses, focal length.

    python -m benchmarks.half_precision [--weights WEIGHTS --views 8 --rooms 40]

The same test rooms in float32 and bfloat16; differences are paired by room. "moved" is the mean
distance between the two pointmaps, over the mean distance of points from the reference camera.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np

from benchmarks.machine import of_settings, write_results
from data.rooms import SPLITS, sample_batch
from mvdust3r_jax import MVDust3r
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.evaluation.estimate import add_poses, first_view
from mvdust3r_jax.evaluation.scores import score
from mvdust3r_jax.evaluation.summary import interval
from mvdust3r_jax.geometry.transforms import safe_norm
from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.types import Batch
from mvdust3r_jax.weights.files import load_weights

# Of `evaluation.scores`: name, heading, factor, digits.
COLUMNS = (
    ("nd", "ND, m", 1.0, 4),
    ("rre_deg", "RRE, deg", 1.0, 3),
    ("rte_deg", "RTE, deg", 1.0, 2),
    ("focal_error", "focal length, %", 100.0, 2),
)


def judged(config: ModelConfig, num_refs: int, variables: dict, batch: Batch):
    """Scores ``[B]`` by name and points ``[B, V, H, W, 3]`` of one pass."""
    prediction = MVDust3r(config).apply(variables, batch.images, num_refs=num_refs)
    return score(add_poses(prediction, batch, first_view(batch)), batch), prediction.points


@jax.jit
def moved(points: jax.Array, others: jax.Array) -> jax.Array:
    """Mean distance between pointmaps over the mean norm of the first."""
    return safe_norm(points - others).mean() / safe_norm(points).mean()


def measure(weights: str, views: int, rooms: int, size: int) -> dict[str, list]:
    """Of every room: scores ``[rooms][columns]`` in ``float32`` and ``bfloat16``; ``moved``."""
    config, variables = load_weights(weights)
    num_refs = min(4, views) if config.cross_ref else 1
    found: dict[str, list] = {"float32": [], "bfloat16": [], "moved": []}
    ways = {
        name: jax.jit(functools.partial(judged, dataclasses.replace(config, dtype=name), num_refs))
        for name in ("float32", "bfloat16")
    }
    for room in range(rooms):
        seeds = np.array([SPLITS["test"][0] + room], np.uint32)
        batch = sample_batch(seeds, views, 0, size, size)
        points = []
        for name, way in ways.items():
            numbers, of_points = way(variables, batch)
            found[name].append([float(numbers[column[0]][0]) for column in COLUMNS])
            points.append(of_points)
        found["moved"].append(float(moved(*points)))
    return found


def table(found: dict[str, list]) -> str:
    """Means, and paired differences with their 95 % intervals over rooms."""
    exact, rounded = np.array(found["float32"]), np.array(found["bfloat16"])
    rows = []
    for i, (_, heading, factor, digits) in enumerate(COLUMNS):
        mean, low, high = (factor * x for x in interval(rounded[:, i] - exact[:, i]))
        cells = [f"{factor * np.nanmean(x[:, i]):.{digits}f}" for x in (exact, rounded)]
        cells += [f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"]
        rows.append((heading, *cells))
    share = 100 * np.array(found["moved"])
    rows.append(("moved, %", "", f"{share.mean():.2f}", f"at most {share.max():.2f}"))
    names = (f"{len(exact)} rooms", "float32", "bfloat16", "bfloat16 less float32")
    return tables.table(names, rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="weights/small.safetensors")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--rooms", type=int, default=40)
    parser.add_argument("--size", type=int, default=64)
    args = parser.parse_args()
    found = measure(args.weights, args.views, args.rooms, args.size)
    print(table(found))
    told = vars(args) | {"weights": Path(args.weights).name}
    write_results(of_settings("half_precision", told), {"settings": told, **found})


if __name__ == "__main__":
    main()
