"""How much the choice of the reference view matters: ND with each view as the reference in turn.

    python -m benchmarks.references --weights WEIGHTS [WEIGHTS ...] [--views 12 --rooms 50]

All views serve as references of a path (R = V), so one pass gives every choice. Reported are means
over test rooms of the ND in meters of the average, best and worst choice and of their standard
deviation, for networks with cross-reference blocks also with the paths apart (R = 1 each).
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import write_results
from data.rooms import SPLITS, sample_batch
from mvdust3r_jax import MVDust3r
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.geometry.truth import known_depth, true_pointmaps
from mvdust3r_jax.metrics import pointmaps as metrics
from mvdust3r_jax.types import Batch
from mvdust3r_jax.weights.files import load_weights


def errors_together(model: MVDust3r, variables: dict, batch: Batch) -> jax.Array:
    """ND [B, V] of every path of one pass."""
    views = batch.images.shape[1]
    prediction = model.apply(variables, batch.images, num_refs=views, all_paths=True)
    return nd_of_paths(prediction.points, batch)


def errors_apart(model: MVDust3r, variables: dict, batch: Batch) -> jax.Array:
    """ND [B, V] of passes with one reference each."""
    views = batch.images.shape[1]

    def with_reference(view: jax.Array) -> jax.Array:
        # View 0 and the reference change places.
        order = jnp.arange(views).at[0].set(view).at[view].set(0)
        turned = jax.tree.map(lambda x: x[:, order], batch)
        points = model.apply(variables, turned.images, num_refs=1).points
        return nd_of_paths(points[:, None], turned)[:, 0]

    return jax.lax.map(with_reference, jnp.arange(views)).T


def nd_of_paths(points: jax.Array, batch: Batch) -> jax.Array:
    """ND [B, R] of pointmaps [B, R, V, H, W, 3], each in its reference's frame."""
    truth = true_pointmaps(batch, points.shape[1])
    valid = jnp.broadcast_to(known_depth(batch)[:, None], truth.shape[:-1])
    return metrics.point_errors(points, truth, valid).nd


def summary(errors: np.ndarray) -> dict[str, float]:
    """Means over rooms of what the choice of the reference does to the ND [rooms, V]."""
    numbers = {"mean": errors.mean(1), "best": errors.min(1), "worst": errors.max(1)}
    numbers["deviation"] = errors.std(1)
    return {name: float(value.mean()) for name, value in numbers.items()}


def measure(weights: str, args: argparse.Namespace) -> list[dict]:
    """Rows of one network: its paths in one pass, where they look at each other, and apart."""
    config, variables = load_weights(weights)
    model = MVDust3r(config)
    ways = {"together": errors_together} if config.cross_ref else {}
    ways["apart"] = errors_apart
    rows = []
    for name, way in ways.items():
        run = jax.jit(functools.partial(way, model))
        found = []
        for room in range(args.rooms):
            seeds = np.array([SPLITS["test"][0] + room], np.uint32)
            batch = sample_batch(seeds, args.views, 0, args.size, args.size)
            found.append(np.asarray(run(variables, batch))[0])
        counts = {"views": args.views, "rooms": args.rooms}
        rows.append(
            {"network": Path(weights).stem, "paths": name, **counts, **summary(np.stack(found))}
        )
    return rows


def table(rows: list[dict]) -> str:
    """Markdown."""
    names = list(rows[0])

    def cell(value):
        return f"{value:.3f}" if isinstance(value, float) else value

    return tables.table(names, ([cell(row[name]) for name in names] for row in rows)) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", nargs="+", required=True)
    parser.add_argument("--views", type=int, default=12)
    parser.add_argument("--rooms", type=int, default=50)
    parser.add_argument("--size", type=int, default=64)
    args = parser.parse_args()
    rows = [row for weights in args.weights for row in measure(weights, args)]
    print(table(rows))
    write_results("experiment_references", rows)


if __name__ == "__main__":
    main()
