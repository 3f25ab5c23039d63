"""Global alignment on exact pairs of procedural rooms: error, time and memory by number of views.

    python -m benchmarks.eval [--views 4 8 24] [--size 64] [--steps 300] [--noise 0.01]

Every row runs in a process of its own, so that its peak memory is its own. Pairs have random scales
and, with --noise, Gaussian noise of that share of each point's distance on every coordinate; errors
are the largest over views, positions relative to the scene's spread.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.machine import write_results
from data.rooms import SPLITS, sample_batch
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.geometry import camera, transforms
from mvdust3r_jax.pairwise.alignment_start import scene_graph
from mvdust3r_jax.pairwise.global_alignment import global_alignment
from mvdust3r_jax.pairwise.network import exact_pairs


def scene_errors(aligned, world_from_cam, spread):
    truth = transforms.invert_rigid(world_from_cam[:1]) @ world_from_cam
    angle = transforms.rotation_angle_deg(aligned.ref_from_cam[:, :3, :3], truth[:, :3, :3])
    found, wanted = aligned.ref_from_cam[:, :3, 3], truth[:, :3, 3]
    scale = jnp.sum(found * wanted) / jnp.sum(found**2)
    distance = jnp.linalg.norm(scale * found - wanted, axis=-1)
    return float(angle.max()), float(distance.max() / spread)


def row(views, graph, size, steps, noise):
    seed = np.array([SPLITS["test"][0]], np.uint32)
    scene = jax.tree.map(lambda x: x[0], sample_batch(seed, views, 0, size, size))
    points = camera.depth_to_world(scene.depth_m, scene.intrinsics, scene.world_from_cam)
    valid = scene.depth_m > 0
    spread = jnp.sqrt(jnp.sum(jnp.var(points[valid], axis=0)))
    first, second = scene_graph(views, graph)
    scales = jnp.exp(0.3 * jax.random.normal(jax.random.key(0), (len(first),)))
    pairs = exact_pairs(points, scene.world_from_cam, valid, first, second, scales)
    distance = jnp.linalg.norm(pairs.points, axis=-1, keepdims=True)
    jitter = noise * distance * jax.random.normal(jax.random.key(1), pairs.points.shape)
    pairs = pairs.replace(points=pairs.points + jitter)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    options = {"principal_px": scene.intrinsics[:, :2, 2]}
    start = global_alignment(pairs, views, steps=0, **options)
    align = global_alignment.lower(pairs, views, steps=steps, **options).compile()
    begin = time.perf_counter()
    aligned = jax.block_until_ready(align(pairs, **options))
    seconds = time.perf_counter() - begin
    start_errors = scene_errors(start, scene.world_from_cam, spread)
    end_errors = scene_errors(aligned, scene.world_from_cam, spread)
    return {
        "views": views,
        "graph": graph,
        "pairs": len(first),
        "size": size,
        "steps": steps,
        "noise": noise,
        "start_deg": start_errors[0],
        "start_relative": start_errors[1],
        "end_deg": end_errors[0],
        "end_relative": end_errors[1],
        "seconds": seconds,
        "predictions_gb": float(pairs.points.nbytes + pairs.confidence.nbytes) / 1e9,
        "temporary_gb": align.memory_analysis().temp_size_in_bytes / 1e9,
        "peak_before_gb": before / 1e6,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=int, nargs="+", default=[4, 8, 24])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--row", nargs=2, metavar=("VIEWS", "GRAPH"))
    args = parser.parse_args()
    if args.row:
        print(json.dumps(row(int(args.row[0]), args.row[1], args.size, args.steps, args.noise)))
        return
    rows = []
    names = ("views", "graph", "pairs", "deg start", "deg end", "rel start", "rel end", "s")
    print(tables.head([*names, "temp GB"]), flush=True)
    for views in args.views:
        for graph in ("complete", "reference"):
            command = [sys.executable, "-m", "benchmarks.eval", "--row", str(views), graph]
            command += ["--size", str(args.size), "--steps", str(args.steps)]
            command += ["--noise", str(args.noise)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            r = json.loads(done.stdout.splitlines()[-1])
            cells = [r["views"], r["graph"], r["pairs"]]
            cells += [f"{r[key]:.5f}" for key in ("start_deg", "end_deg")]
            cells += [f"{r[key]:.2e}" for key in ("start_relative", "end_relative")]
            cells += [f"{r['seconds']:.1f}", f"{r['temporary_gb']:.2f}"]
            print(tables.row(cells), flush=True)
            rows.append(r)
    write_results("alignment_noise" if args.noise else "alignment", rows)


if __name__ == "__main__":
    main()
