"""The reference chosen by the network's own confidence against the first view.

    python -m benchmarks.reference_auto [--views 4,8,12 --rooms 60]

ND in meters on generated test rooms, the paired difference with its 95 % interval, and what the
choice costs in processor time, as a multiple of a pass that returns the first view's path.
"""

from __future__ import annotations

import argparse
import functools
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import write_results
from data.rooms import SPLITS, sample_batch
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.geometry.truth import known_depth, true_pointmaps
from mvdust3r_jax.metrics.pointmaps import point_errors
from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.models.mvdust3r import MVDust3r
from mvdust3r_jax.models.reference_choice import surest_of_paths
from mvdust3r_jax.models.view_order import network_order
from mvdust3r_jax.types import Batch
from mvdust3r_jax.weights.files import load_weights

WEIGHTS = Path("weights/small.safetensors")


def of_first(config: ModelConfig, num_refs: int, variables: dict, images: jax.Array):
    """Points [1, V, H, W, 3] on the first view's path, and that view."""
    prediction = MVDust3r(config).apply(variables, images, num_refs=num_refs)
    return prediction.points, jnp.zeros(1, jnp.int32)


def of_surest(config: ModelConfig, num_refs: int, variables: dict, images: jax.Array):
    """The same on the surest path."""
    choice = surest_of_paths(variables, images, config=config, num_refs=num_refs)
    return choice.prediction.points, choice.reference


@functools.partial(jax.jit, static_argnums=0)
def nd(num_refs: int, points: jax.Array, reference: jax.Array, batch: Batch) -> jax.Array:
    """ND of points in the frame of one of the first ``num_refs`` views."""
    truth = true_pointmaps(batch, num_refs)
    valid = jnp.broadcast_to(known_depth(batch)[:, None], truth.shape[:-1])
    everywhere = jnp.broadcast_to(points[:, None], truth.shape)
    return point_errors(everywhere, truth, valid).nd[0, reference[0]]


def measure(views: int, rooms: int, size: int, config: ModelConfig, variables: dict) -> dict:
    """One row: all rooms with this number of views."""
    num_refs, order = min(4, views), np.array(network_order(views))
    ways = [jax.jit(functools.partial(way, config, num_refs)) for way in (of_first, of_surest)]
    errors, seconds = [], []
    for room in range(rooms + 1):
        # The first room is seen twice: its first pass compiles.
        seed = SPLITS["test"][0] + max(room - 1, 0)
        batch = sample_batch(np.array([seed], np.uint32), views, 0, size, size)
        batch = jax.tree.map(lambda x: x[:, order], batch)
        marks, found = [time.process_time()], []
        for way in ways:
            found.append(jax.block_until_ready(way(variables, batch.images)))
            marks.append(time.process_time())
        if room:
            seconds.append(np.diff(marks))
            errors.append([float(nd(num_refs, *answer, batch)) for answer in found])
    first, surest = np.array(errors).T
    return {
        "views": views,
        "first, m": first.mean(),
        "auto, m": surest.mean(),
        "difference": (surest - first).mean(),
        "+-": 1.96 * (surest - first).std() / rooms**0.5,
        "cost": np.divide(*np.sum(seconds, axis=0)[::-1]),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", default="4,8,12")
    parser.add_argument("--rooms", type=int, default=60)
    parser.add_argument("--size", type=int, default=64)
    args = parser.parse_args()
    config, variables = load_weights(WEIGHTS)
    rows = []
    for views in map(int, args.views.split(",")):
        row = measure(views, args.rooms, args.size, config, variables)
        rows.append({name: round(float(value), 3) for name, value in row.items()})
    print(tables.table(list(rows[0]), [row.values() for row in rows]))
    write_results("reference_auto", {"rooms": args.rooms, "size": args.size, "rows": rows})


if __name__ == "__main__":
    main()
