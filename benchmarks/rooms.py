"""Rooms rendered per second: whole samples (room, walk, views), and where the time goes.

    python -m benchmarks.rooms [--sizes 64 128 224] [--scenes 4] [--at-once 1]

A sample is 8 input and 2 render-only views. Wall time is the best of the repeats; processor time
counts all threads, so on a busy machine it tells more. Prints a table and writes
benchmarks/results/rooms.json (rooms_DEVICE.json on an accelerator).
"""

import argparse
import time

import jax
import jax.numpy as jnp

from benchmarks.machine import machine, write_results
from data.rooms import SPLITS, make_scene, render, sample_batch
from data.rooms.light import light_maps
from data.rooms.render import shadow_size
from data.rooms.sample import scene_intrinsics
from data.rooms.walk import choose_poses

INPUTS, TARGETS = 8, 2


def best(function, *args, repeats):
    """Best wall and processor seconds of one call, after one that is not counted."""
    result = jax.block_until_ready(function(*args))
    wall, processor = [], []
    for _ in range(repeats):
        start, start_processor = time.perf_counter(), time.process_time()
        result = jax.block_until_ready(function(*args))
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - start_processor)
    return min(wall), min(processor), result


def sample_row(size, scenes, at_once, repeats):
    seeds = SPLITS["train"][0] + jnp.arange(scenes, dtype=jnp.uint32)
    start = time.perf_counter()
    program = sample_batch.lower(
        seeds, INPUTS, TARGETS, size, size, scenes_at_once=at_once
    ).compile()
    compiled = time.perf_counter() - start
    wall, processor, _ = best(program, seeds, repeats=repeats)
    views = scenes * (INPUTS + TARGETS)
    return {
        "size": size,
        "scenes": scenes,
        "at_once": at_once,
        "views_per_s": views / wall,
        "cpu_ms_per_view": 1e3 * processor / views,
        "compile_s": compiled,
    }


def parts(size, repeats):
    """Milliseconds of one sample's parts, each as a program of its own (one scene)."""
    make = jax.jit(make_scene)
    scene_s, _, scene = best(make, jnp.uint32(0), repeats=repeats)
    k = scene_intrinsics(scene, size, size)
    choose = jax.jit(
        lambda s, k: choose_poses(jax.random.key(0), s, INPUTS, TARGETS, k, size, size, 1.0)
    )
    walk_s, _, poses = best(choose, scene, k, repeats=repeats)
    maps_s, _, _ = best(jax.jit(lambda s: light_maps(s, shadow_size(size))), scene, repeats=repeats)
    stacked = jnp.broadcast_to(k, (len(poses), 3, 3))
    draw = jax.jit(lambda s, p, k: render(s, p, k, size, size))
    render_s, _, _ = best(draw, scene, poses, stacked, repeats=repeats)
    named = {"scene": scene_s, "walk": walk_s, "light_maps": maps_s, "render": render_s}
    return {"size": size, **{f"{name}_ms": 1e3 * value for name, value in named.items()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 224])
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    rows = [sample_row(size, args.scenes, args.at_once, args.repeats) for size in args.sizes]
    details = [parts(size, args.repeats) for size in args.sizes]
    for table in (rows, details):
        print(" ".join(f"{name:>16}" for name in table[0]))
        for row in table:
            print(" ".join(f"{value:16.2f}" for value in row.values()))
    kind = machine()["device"]
    name = "rooms" if kind == "cpu" else "rooms_" + kind.split()[-1].lower()
    write_results(name, {"samples": rows, "parts": details})


if __name__ == "__main__":
    main()
