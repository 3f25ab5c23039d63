"""Windows of views against all at once: accuracy, processor time, on generated rooms.

    python -m benchmarks.windows [--views 32,64 --windows 8,12 --rooms 20]

By a network that ships, and by an oracle: true points with noise and outliers, each window in a
frame and at a scale of its own, which shows what joining alone costs. The photographs are in the
order of a walk; the network is also given them shuffled, in windows by that order and by likeness
(`window_plan`). ND is that of all views' points in the frame of the reference, after the best
scale, in meters (`metrics.pointmaps`).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import of_network, of_settings, write_results
from data.rooms import SPLITS, sample_batch
from mvdust3r_jax import load_model
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.evaluation.summary import interval
from mvdust3r_jax.geometry.camera import depth_to_world
from mvdust3r_jax.geometry.transforms import invert_rigid, transform_points
from mvdust3r_jax.geometry.truth import known_depth
from mvdust3r_jax.metrics.pointmaps import point_errors
from mvdust3r_jax.models.window_plan import Plan, by_likeness, in_order
from mvdust3r_jax.reconstruction.network import Answer, asking, features_of
from mvdust3r_jax.reconstruction.windows import ask_in_windows
from mvdust3r_jax.types import Batch, Prediction, images_01_from

# Of the oracle: noise as a share of a point's distance, and the share of points that are wrong.
NOISE, OUTLIERS = 0.02, 0.05


def world_points(batch: Batch) -> jax.Array:
    """True points [V, H, W, 3] of the first room."""
    return depth_to_world(batch.depth_m[0], batch.intrinsics[0], batch.world_from_cam[0])


@jax.jit
def nd(points: jax.Array, batch: Batch, reference: jax.Array) -> jax.Array:
    """ND of points [V, H, W, 3] in the frame of view ``reference``."""
    ref_from_world = invert_rigid(batch.world_from_cam[0, reference])
    truth = transform_points(ref_from_world, world_points(batch))
    return point_errors(points[None], truth[None], known_depth(batch)).nd[0]


def oracle(batch: Batch, room: int):
    """A network that answers with the truth, noise and outliers, in frames of its own."""
    world, poses = np.asarray(world_points(batch)), np.asarray(batch.world_from_cam[0])

    def ask(_variables: dict, indices: np.ndarray) -> Answer:
        views = indices[:, 0, 0, 0]
        rng = np.random.default_rng([room, int(views[0])])
        ref_from_world = np.linalg.inv(poses[views[0]])
        points = world[views] @ ref_from_world[:3, :3].T + ref_from_world[:3, 3]
        distance = np.linalg.norm(points, axis=-1, keepdims=True)
        points = points + NOISE * distance * rng.normal(size=points.shape)
        wrong = rng.random(points.shape[:-1]) < OUTLIERS
        points[wrong] *= rng.uniform(0.3, 3, size=(int(wrong.sum()), 1))
        points = np.float32(rng.uniform(0.5, 2) * points)
        return Answer(Prediction(points, np.full(points.shape[:-1], 3.0, np.float32)), 0)

    return ask


def numbered(views: int, height: int, width: int) -> np.ndarray:
    """Pixels that tell the oracle which view they are of."""
    return np.broadcast_to(np.arange(views)[:, None, None, None], (views, height, width, 3))


def errors_of(ask, variables: dict, given: np.ndarray, plan: Plan, batch: Batch):
    """ND and processor seconds of one room."""
    begin = time.process_time()
    if len(plan) > 1:
        answer = ask_in_windows(ask, variables, given, plan)
    else:
        answer = ask(variables, given)
    seconds = time.process_time() - begin
    error = nd(jnp.asarray(answer.prediction.points), batch, jnp.int32(answer.reference))
    return float(error), seconds


def shuffled(batch: Batch, room: int) -> Batch:
    """The same views in another order."""
    order = np.random.default_rng(room).permutation(batch.images.shape[1])
    return jax.tree.map(lambda x: x[:, order], batch)


def pixels_of(batch: Batch) -> np.ndarray:
    """The first room's photographs."""
    return np.uint8(np.rint(255 * images_01_from(np.asarray(batch.images[0]))))


def measure(views: int, window: int, args: argparse.Namespace, model) -> list[dict]:
    """Rows of the network and of the oracle; ``window`` = views: all at once."""
    size, plan = args.size, in_order(views, window)
    at_once, network = len(plan[0]), Path(args.weights).stem
    paths = min(4, window) if model.config.cross_ref else 1
    ask = asking(model, (at_once, size, size, 3), paths, "auto" if paths > 1 else "first")
    found: dict[tuple[str, str, str], list] = {}

    def note(by: str, order: str, windows_by: str, result: tuple[float, float]) -> None:
        found.setdefault((by, order, windows_by), []).append(result)

    for room in range(args.rooms):
        batch = sample_batch(np.array([SPLITS["test"][0] + room], np.uint32), views, 0, size, size)
        pixels, mixed = pixels_of(batch), shuffled(batch, room)
        if not room:
            errors_of(ask, model.variables, pixels, plan, batch)  # compiles
        note(network, "walk", "order", errors_of(ask, model.variables, pixels, plan, batch))
        numbers = numbered(views, size, size)
        note("oracle", "walk", "order", errors_of(oracle(batch, room), {}, numbers, plan, batch))
        if len(plan) > 1:
            given = pixels_of(mixed)
            alike = by_likeness(features_of(model, given, at_once), at_once)
            for way, windows in (("order", plan), ("likeness", alike)):
                result = errors_of(ask, model.variables, given, windows, mixed)
                note(network, "shuffled", way, result)
    rows = []
    for (by, order, windows_by), results in found.items():
        errors, seconds = np.array(results).T
        rows.append(
            {
                "by": by,
                "views": views,
                "photographs": order,
                "at once": window,
                "windows by": windows_by,
                "windows": len(plan),
                "nd_m": list(map(float, errors)),
                "cpu_s": float(np.median(seconds)),
            }
        )
    return rows


def table(rows: list[dict]) -> str:
    """ND of each row as its mean with a 95 % interval over rooms."""

    def cell(name: str, value: object) -> object:
        return (
            "{:.3f} [{:.3f}, {:.3f}]".format(*interval(np.array(value)))
            if name == "nd_m"
            else value
        )

    return tables.table(list(rows[0]), ([cell(*item) for item in row.items()] for row in rows))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", default="32,64")
    parser.add_argument("--windows", default="8,12")
    parser.add_argument("--rooms", type=int, default=20)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--weights", default="weights/small.safetensors")
    args = parser.parse_args()
    model, rows = load_model(args.weights), []
    for views in map(int, args.views.split(",")):
        for window in (*map(int, args.windows.split(",")), views):
            new = measure(views, window, args, model)
            print(table(new), flush=True)
            rows += new
    told = {"rooms": args.rooms, "size": args.size}
    name = of_settings(of_network("windows", args.weights), told)
    write_results(name, {"settings": told, "rows": rows})


if __name__ == "__main__":
    main()
