"""The reference in the middle, or the surest by itself, against the first view, chance, and truth.

    python -m benchmarks.reference_auto [--weights WEIGHTS --views 4,8,12,24 --rooms 40]
    python -m benchmarks.reference_auto --split validation  # what choices are made on

ND in meters on generated rooms, every view tried as the reference, four at a time as paths of
one pass. "random" is the mean over all choices, "middle" the view that
to the encoder is most like all others, "surest of 4" what `mvdust3r reconstruct` takes of
MV-DUSt3R+ (the first four photographs in the network's order), "best" the choice of somebody who
knows the truth. Differences are those from "first", paired by room, with their 95 % intervals; the
cost is processor time of "surest of 4" over that of a pass that returns the first view's path.
Rows of other numbers of views stay in the file of results.
"""

from __future__ import annotations

import argparse
import functools
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from benchmarks.machine import of_network, of_settings, read_results, results_path, write_results
from data.rooms import SPLITS, sample_batch
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.evaluation.summary import interval
from mvdust3r_jax.geometry.truth import known_depth, true_pointmaps
from mvdust3r_jax.metrics.pointmaps import point_errors
from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.models.encoded import encode_views, predict_encoded
from mvdust3r_jax.models.mvdust3r import MVDust3r
from mvdust3r_jax.models.reference_choice import middle_view, path_scores, surest_of_paths
from mvdust3r_jax.models.view_order import network_order
from mvdust3r_jax.types import Batch
from mvdust3r_jax.weights.files import load_weights

# References of one pass.
AT_ONCE = 4
# Rooms in which the two ways are timed.
TIMED = 5
ERRORS = ("first", "random", "middle", "surest of 4", "surest of all", "best")
COMPARED = ("middle", "surest of 4")


def of_group(
    config: ModelConfig, variables: dict, batch: Batch, tokens: Array, start: Int[Array, ""]
) -> tuple[Float[Array, " R"], Float[Array, " R"]]:
    """ND and score of the paths of ``AT_ONCE`` views from ``start`` on; a batch of one room."""
    order = (jnp.arange(batch.images.shape[1]) + start) % batch.images.shape[1]
    turned = jax.tree.map(lambda x: x[:, order], batch)
    paths = predict_encoded(
        variables, turned.images, tokens[:, order], config, num_refs=AT_ONCE, all_paths=True
    )
    truth = true_pointmaps(turned, AT_ONCE)
    valid = jnp.broadcast_to(known_depth(turned)[:, None], truth.shape[:-1])
    return point_errors(paths.points, truth, valid).nd[0], path_scores(paths.confidence)[0]


def errors(
    nd: Float[np.ndarray, " V"], scores: Float[np.ndarray, " V"], middle: int
) -> list[float]:
    """`ERRORS` of one room."""
    surest_of_first, surest = int(np.argmax(scores[:AT_ONCE])), int(np.argmax(scores))
    chosen = nd[0], nd.mean(), nd[middle], nd[surest_of_first], nd[surest], nd.min()
    return [float(x) for x in chosen]


def first_path(config: ModelConfig, variables: dict, images: Array) -> Array:
    """What a pass without a choice computes."""
    return MVDust3r(config).apply(variables, images, num_refs=AT_ONCE).points


def surest_path(config: ModelConfig, variables: dict, images: Array) -> Array:
    """What it computes with one."""
    choice = surest_of_paths(variables, images, config=config, num_refs=AT_ONCE)
    return choice.prediction.points


def room(seed: int, views: int, size: int) -> Batch:
    """A room, its views in the network's order."""
    batch = sample_batch(np.array([seed], np.uint32), views, 0, size, size)
    order = np.array(network_order(views))
    return jax.tree.map(lambda x: x[:, order], batch)


def measure(config: ModelConfig, variables: dict, views: int, seeds: range, size: int) -> list:
    """`ERRORS` of every room, ``[rooms][6]``."""
    encode = jax.jit(functools.partial(encode_views, config=config))
    group = jax.jit(functools.partial(of_group, config))
    found = []
    for seed in seeds:
        batch = room(seed, views, size)
        tokens = encode(variables, batch.images)
        starts = range(0, views, AT_ONCE)
        parts = [group(variables, batch, tokens, np.int32(start)) for start in starts]
        nd, scores = (np.concatenate(x) for x in zip(*parts, strict=True))
        found.append(errors(nd, scores, int(middle_view(tokens)[0])))
    return found


def cost(config: ModelConfig, variables: dict, views: int, size: int) -> float:
    """Processor time of a pass with the choice over one without."""
    ways = [jax.jit(functools.partial(way, config)) for way in (first_path, surest_path)]
    seconds = []
    for seed in range(TIMED + 1):
        images = room(SPLITS["test"][0] + seed, views, size).images
        marks = [time.process_time()]
        for way in ways:
            jax.block_until_ready(way(variables, images))
            marks.append(time.process_time())
        seconds.append(np.diff(marks))
    # The first room's passes compile.
    without, with_choice = np.sum(seconds[1:], axis=0)
    return float(with_choice / without)


def table(results: list[dict]) -> str:
    """Means over rooms, and what the choice brings."""
    rows = []
    for result in results:
        values = np.array(result["errors"])
        cells = [f"{mean:.3f}" for mean in values.mean(axis=0)]
        for name in COMPARED:
            difference = values[:, ERRORS.index(name)] - values[:, 0]
            cells.append("{:+.3f} [{:+.3f}, {:+.3f}]".format(*interval(difference)))
        rows.append((result["views"], *cells, f"{result['cost']:.2f}"))
    headings = (f"{name} less first" for name in COMPARED)
    return tables.table(("views", *ERRORS, *headings, "cost"), rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="weights/small.safetensors")
    parser.add_argument("--views", default="4,8,12,24", help="multiples of 4")
    parser.add_argument("--rooms", type=int, default=40)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    args = parser.parse_args()
    config, variables = load_weights(args.weights)
    name = of_network("reference_auto", args.weights)
    name += "" if args.split == "test" else f"_{args.split}"
    first = SPLITS[args.split][0]
    seeds = range(first, first + args.rooms)
    told = {"weights": Path(args.weights).name, "size": args.size, "rooms": args.rooms}
    name = of_settings(name, told)
    kept = read_results(name)["views"] if results_path(name).exists() else []
    for views in map(int, args.views.split(",")):
        found = measure(config, variables, views, seeds, args.size)
        row = {"views": views, "errors": found, "cost": cost(config, variables, views, args.size)}
        kept = sorted([r for r in kept if r["views"] != views] + [row], key=lambda r: r["views"])
        write_results(name, {"settings": told, "views": kept})
        print(table([row]), flush=True)


if __name__ == "__main__":
    main()
