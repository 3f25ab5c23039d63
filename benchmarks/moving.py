"""What a moving piece of furniture does to a network that was trained on rooms at rest.

    python -m benchmarks.moving --weights WEIGHTS [--views 8 --rooms 50 --path 1.0]

The same test rooms and cameras twice, at rest and with one piece sliding ``--path`` meters from the
first to the last photograph. Reported by room, so that the comparison is paired: the mean error of
aligned points in meters and the mean log confidence, on pixels of the piece and on all others. What
a view saw at its own time is its truth.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from benchmarks.machine import of_settings, write_results
from data.rooms import SPLITS, moving_batch
from mvdust3r_jax import MVDust3r
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.evaluation.summary import interval
from mvdust3r_jax.geometry.truth import known_depth, true_pointmaps
from mvdust3r_jax.metrics.pointmaps import align_pointmaps
from mvdust3r_jax.types import Batch
from mvdust3r_jax.weights.files import load_weights

NUMBERS = ("error on the piece m", "error elsewhere m", "log C on the piece", "log C elsewhere")


def mean_where(values: Float[Array, "B V H W"], where: Bool[Array, "B V H W"]) -> Array:
    """Mean over the views' chosen pixels, ``[B]``; NaN where there are none."""
    count = where.sum(axis=(1, 2, 3))
    return jnp.where(where, values, 0.0).sum(axis=(1, 2, 3)) / jnp.where(count > 0, count, jnp.nan)


def scores(model: MVDust3r, num_refs: int, variables: dict, batch: Batch, piece: Array) -> Array:
    """``NUMBERS`` of each room, ``[B, 4]``."""
    prediction = model.apply(variables, batch.images, num_refs=num_refs)
    truth, valid = true_pointmaps(batch, 1)[:, 0], known_depth(batch)
    aligned, truth = align_pointmaps(prediction.points, truth, valid)
    error = jnp.sqrt(((aligned - truth) ** 2).sum(axis=-1))
    log_confidence = jnp.log(prediction.confidence)
    on, off = valid & piece, valid & ~piece
    found = [mean_where(x, where) for x in (error, log_confidence) for where in (on, off)]
    return jnp.stack(found, axis=-1)


def measure(weights: str, views: int, rooms: int, size: int, path_m: float) -> dict:
    """Scores of every room that has a piece, at rest and moving, ``[rooms][4]`` each."""
    config, variables = load_weights(weights)
    num_refs = min(4, views) if config.cross_ref else 1
    run = jax.jit(partial(scores, MVDust3r(config), num_refs))
    at_rest, moving = [], []
    for room in range(rooms):
        seeds = np.array([SPLITS["test"][0] + room], np.uint32)
        pair = moving_batch(seeds, views, size, size, path_m=path_m)
        if pair.path_m[0] > 0:
            at_rest.append(run(variables, pair.at_rest, pair.on_piece_at_rest)[0].tolist())
            moving.append(run(variables, pair.moving, pair.on_piece)[0].tolist())
    return {"at_rest": at_rest, "moving": moving}


def table(found: dict) -> str:
    """Means, and paired differences with their 95 % intervals over rooms."""
    rest, moving = np.array(found["at_rest"]), np.array(found["moving"])
    lines = [tables.head((f"{len(rest)} rooms", "at rest", "moving", "moving less at rest"))]
    for i, name in enumerate(NUMBERS):
        difference = moving[:, i] - rest[:, i]
        mean, low, high = interval(difference[~np.isnan(difference)])
        cells = (f"{np.nanmean(x[:, i]):.3f}" for x in (rest, moving))
        lines.append(tables.row((name, *cells, f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]")))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="weights/small.safetensors")
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--rooms", type=int, default=50)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--path", type=float, default=1.0, help="meters")
    args = parser.parse_args()
    found = measure(args.weights, args.views, args.rooms, args.size, args.path)
    print(table(found))
    told = vars(args) | {"weights": Path(args.weights).name}
    write_results(of_settings("moving", told), {"settings": told, **found})


if __name__ == "__main__":
    main()
