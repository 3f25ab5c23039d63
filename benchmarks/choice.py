"""Time of choosing trajectories by overlap, and which numbers of views a scene can give.

    python -m benchmarks.choice ROOT --layout 7scenes [--step 3] [--lo 0.3 --hi 0.7]

ROOT as for ``python -m data.build choose``; its first scene is taken. Times are processor seconds
(one core works at a time). Writes benchmarks/results/choice.json, which holds no image.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import write_results
from data.overlap import Rule, choose_inputs, choose_trajectories
from data.rgbd.choose import plan
from data.rgbd.frames import check_frames
from data.surfaces import Surfaces, world_points

# Draws of input views for each number of views.
_ATTEMPTS = 500
# Trajectories asked for at each range of overlaps.
_TRAJECTORIES = 200


def scene_points(task):
    """Points of every usable frame, as ``choose_scene`` takes them."""
    paths, _ = task.frames()
    step = task.rule.step

    def points(path, depth_m):
        return world_points(depth_m, path.intrinsics, path.world_from_cam, step)

    return check_frames(paths, points)[1]


def possible(overlap, rule, rng):
    """Number of views -> share of the attempts that found so many."""
    counts = {}
    for views in range(2, 13):
        wanted = Rule(lo=rule.lo, hi=rule.hi, num_inputs=views)
        found = [choose_inputs(overlap, wanted, rng) is not None for _ in range(_ATTEMPTS)]
        counts[views] = float(np.mean(found))
        if not counts[views]:
            break
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--layout", required=True)
    parser.add_argument("--step", type=int, default=3)
    parser.add_argument("--ranges", type=float, nargs="+", default=[0.3, 0.7, 0.3, 1.0, 0.6, 0.9])
    args = parser.parse_args()
    result = {"step": args.step, "ranges": []}

    start = time.process_time()
    points = scene_points(plan(args.layout, args.root, Rule(step=args.step))[0])
    result |= {"frames": len(points), "points_per_frame": float(np.mean([len(p) for p in points]))}
    result["read_cpu_s"] = time.process_time() - start
    start = time.process_time()
    surfaces = Surfaces(points, Rule(step=args.step).radius_m)
    share = surfaces.shares()
    result["compare_cpu_s"] = time.process_time() - start
    overlap = (share + share.T) / 2
    pairs = overlap[np.triu_indices(len(overlap), 1)]
    result["overlap_quartiles"] = np.quantile(pairs, [0.25, 0.5, 0.75]).tolist()
    for lo, hi in zip(args.ranges[::2], args.ranges[1::2], strict=True):
        rule = Rule(lo=lo, hi=hi, step=args.step, max_trajectories=_TRAJECTORIES)
        start = time.process_time()
        chosen = choose_trajectories(surfaces, share, rule, 0)
        row = {"lo": lo, "hi": hi, "trajectories_of_8": len(chosen)}
        row["choose_cpu_s"] = time.process_time() - start
        row["attempts_that_found"] = possible(overlap, rule, np.random.default_rng(0))
        result["ranges"].append(row)
        print(row, flush=True)
    print({name: value for name, value in result.items() if name != "ranges"})
    write_results("choice", result)


if __name__ == "__main__":
    main()
