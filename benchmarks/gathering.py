"""What a step plans to hold with parameters gathered once a step, or layer by layer (`fsdp`).

    python -m benchmarks.gathering

A step of MV-DUSt3R+ without skip CNN and Gaussians, in bfloat16, one sample of 4 views of 64x64 a
device, compiled for eight host devices and not run: XLA's own account of what one device holds.
Pixels are few, so that parameters and gradients are what is seen.
"""

from __future__ import annotations

import dataclasses
import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # nothing is run: compiling shall be quick

import jax
import numpy as np

from benchmarks.machine import write_results
from data.box import box_views
from mvdust3r_jax import VARIANTS, MVDust3r
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.models.mvdust3r import abstract_variables
from mvdust3r_jax.training.objective_config import ObjectiveConfig
from mvdust3r_jax.training.optimizer import OptimizerConfig
from mvdust3r_jax.training.run import GATHER, make_run, spread_by
from mvdust3r_jax.training.state import StepConfig
from mvdust3r_jax.training.step import make_recipe

NETWORK = dataclasses.replace(
    VARIANTS["mvdp"], remat=True, skip=False, gaussians=False, dtype="bfloat16"
)
VIEWS, SIZE, REFS = 4, 64, 2


def planned(gather: str) -> dict[str, float]:
    """Gigabytes of one device: the state's part that it keeps, and what the step needs beside."""
    spread = spread_by("fsdp", gather=gather)
    variables = abstract_variables(NETWORK)
    recipe = make_recipe(
        MVDust3r(spread.network(NETWORK)),
        OptimizerConfig(total_steps=10),
        ObjectiveConfig(num_refs=REFS),
        StepConfig(),
        variables["params"],
        spread=spread,
    )
    run = make_run(recipe, variables)
    batch = box_views(np.random.default_rng(0), jax.device_count(), VIEWS, SIZE, SIZE)
    plan = run.step.lower(run.state, batch).compile().memory_analysis()
    return {
        "arguments_gb": plan.argument_size_in_bytes / 1e9,
        "temporaries_gb": plan.temp_size_in_bytes / 1e9,
    }


def main() -> None:
    """Prints and keeps the table."""
    found = {gather: planned(gather) for gather in GATHER}
    rows = [(name, *(f"{x:.2f}" for x in plan.values())) for name, plan in found.items()]
    print(tables.table(("gathered at a time", "arguments, GB", "temporaries, GB"), rows))
    write_results("gathering", found)


if __name__ == "__main__":
    main()
