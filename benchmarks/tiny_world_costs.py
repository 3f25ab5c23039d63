"""Processor time of a training step of each arm of the tiny world, one measurement a program.

    python -m benchmarks.tiny_world_costs

Arms that differ in seeds, start and reuse of batches alone run the same program and cost the same.
Programs take turns, so that what else the machine does falls on all of them; what counts is the
median over rounds, and the smallest and largest are kept beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import train as train_benchmark
from benchmarks.clock import clock
from benchmarks.machine import read_results, write_results
from configs import tiny_world

NAME = "tiny_world_costs"
VIEWS = 8  # of a sample, or what the arm has at most
# What the time of a step does not depend on.
BESIDE = ("seed", "init_from", "data.seed", "data.reuse", "data.baseline")


def program_of(arm: str) -> dict[str, Any]:
    """The fields of an arm's config that its step's program depends on."""
    config = tiny_world.get_config(arm)
    fields = dict(config.items(preserve_field_references=False))
    flat = {f"data.{k}": v for k, v in config.data.items()} | fields
    return {k: v for k, v in flat.items() if k not in (*BESIDE, "data")}


def programs(arms: Sequence[str]) -> dict[str, list[str]]:
    """Arms by the first one that runs the same program."""
    groups: dict[str, list[str]] = {}
    for arm in arms:
        same = (first for first in groups if program_of(first) == program_of(arm))
        groups.setdefault(next(same, arm), []).append(arm)
    return groups


def measure(rounds: int, repeat: int) -> dict[str, dict[str, float]]:
    """Seconds of a step of each arm, a core: the median over rounds, smallest and largest."""
    groups = programs([arm for arm in tiny_world.ARMS if arm != "start"])
    steps, found = {}, {first: [] for first in groups}
    for first in groups:
        config = tiny_world.get_config(first)
        views = min(max(config.data.num_inputs), VIEWS)
        steps[first] = train_benchmark.real_step(
            config, views, config.data.images_per_step // views
        )
        print(f"{first} is compiled", flush=True)
    for _ in range(rounds):
        for first, step in steps.items():
            found[first].append(clock(step, repeat=repeat)["cpu_s"])
    costs = {
        first: dict(cpu_s=float(np.median(x)), low=min(x), high=max(x))
        for first, x in found.items()
    }
    return {arm: costs[first] for first, arms in groups.items() for arm in arms}


def read_costs() -> dict[str, float]:
    """Of each arm, processor seconds of a step."""
    return {arm: cost["cpu_s"] for arm, cost in read_results(NAME).items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    costs = measure(args.rounds, args.repeat)
    for arm, cost in costs.items():
        print(f"{arm:20s} {cost['cpu_s']:.3f} s, {cost['low']:.3f} to {cost['high']:.3f}")
    write_results(NAME, costs)


if __name__ == "__main__":
    main()
