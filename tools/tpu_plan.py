"""Does a training configuration fit a TPU slice, and how long would a step take? Without a TPU.

    python -m tools.tpu_plan --config configs/mvdp_stage1.py --topology v5e:16x16

The real train step is compiled ahead of time for the named topology by libtpu (extra
``[tpu-aot]``), so "fits" is the compiler's own answer. FLOPs are counted on an unrolled build,
without what remat computes twice; the step time is an estimate with its assumptions beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

# libtpu reads these when it is loaded: no metadata server is asked, and no TPU is looked for.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-16")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("TPU_WORKER_ID", "0")

import jax
import jax.numpy as jnp
import ml_collections
from jax.experimental import topologies

from configs import build
from mvdust3r_jax import MVDust3r
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.models.mvdust3r import abstract_variables
from mvdust3r_jax.training.parallel import OneChip
from mvdust3r_jax.training.run import initial_state, spread_by
from mvdust3r_jax.training.step import evaluate_step, train_step
from mvdust3r_jax.types import Batch
from tools.config_file import load_config
from tools.interconnect import interconnect_bytes

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published peak rates of one chip, bfloat16 FLOP/s and interconnect byte/s; how to name it."""

    flops: float
    interconnect: float
    options: tuple[tuple[str, str], ...] = ()


# Without its option a v4 chip would be two devices of half the memory; a real one shows one.
CHIPS = {
    "v4": Chip(275e12, 300e9, (("chip_config_name", "megacore"),)),
    "v5e": Chip(197e12, 200e9),
    "v5p": Chip(459e12, 600e9),
    "v6e": Chip(918e12, 448e9),
}
# How much the compiler may do for a faster program (https://openxla.org/xla/effort_levels). At its
# own choice layers took ten times as long to compile and used less memory, so what fits at O0 is no
# overstatement.
LEVELS = {"O0": 9, "O1": 19, "O2": 29, "O3": 39}
LEVEL = "O0"
# Share of peak that the estimate assumes for matrix products.
ASSUMED_UTILIZATION = 0.4


def devices_of(topology: str, slices: int = 1) -> list:
    """One device for each chip of ``slices`` slices of a topology like ``v5e:16x16``."""
    options = dict(CHIPS[topology.split(":")[0]].options)
    options |= {"num_slices": slices} if slices > 1 else {}
    return topologies.get_topology_desc(platform="tpu", topology_name=topology, **options).devices


def abstract_batch(config: ml_collections.ConfigDict, size: int, num_inputs: int) -> Batch:
    """Shapes of ``size`` samples."""
    views = num_inputs + config.data.num_targets
    height, width = config.data.height, config.data.width
    shapes = ((height, width, 3), (height, width), (4, 4), (3, 3))
    return Batch(*(jax.ShapeDtypeStruct((size, views, *s), jnp.float32) for s in shapes))


def build_recipe(config: ml_collections.ConfigDict, spread: OneChip, unroll: bool = False):
    """Shapes of the initial state, and the recipe of a step."""
    network = dataclasses.replace(spread.network(build.network(config)), unroll=unroll)
    model, variables = MVDust3r(network), abstract_variables(network)
    recipe = build.recipe(config, model, variables["params"], spread)
    state = jax.eval_shape(functools.partial(initial_state, recipe, seed=0), variables)
    return state, recipe


def compile_for(
    config: ml_collections.ConfigDict,
    devices: Any,
    per_device: int,
    num_inputs: int,
    level: str = LEVEL,
):
    """The compiled steps of training and evaluation, ``per_device`` samples on each device."""
    options = {"optimization_level": LEVELS[level]}
    count, view_shards = len(devices), config.mesh[1]
    shape = count // view_shards, view_shards
    spread = spread_by(config.parallel, shape, devices, config.slices, config.gather)
    state, recipe = build_recipe(config, spread)
    step, judged = (functools.partial(f, recipe=recipe) for f in (train_step, evaluate_step))
    if config.parallel == "pmap":
        given = state, abstract_batch(config, per_device, num_inputs)
        given = jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), given)
    else:
        given = state, abstract_batch(config, per_device * count // view_shards, num_inputs)
    programs = spread.program(step, state), spread.readout_program(judged, state)
    return [program.lower(*given).compile(options) for program in programs]


def count_flops(config: ml_collections.ConfigDict, samples: int, num_inputs: int) -> float:
    """FLOPs of forward and backward of ``samples`` samples, layers unrolled, nothing recomputed.

    Loops inside the rasterizer are counted once, so its share is missing.
    """
    config = config.copy_and_resolve_references()
    config.accumulation, config.remat = 1, ""
    state, recipe = build_recipe(config, OneChip(), unroll=True)
    lowered = jax.jit(functools.partial(train_step, recipe=recipe)).lower(
        state, abstract_batch(config, 1, num_inputs)
    )
    return samples * float(lowered.cost_analysis()["flops"])


# What tells rows of a results file apart.
SETTINGS = (
    "variant", "topology", "slices", "parallel", "gather", "mesh", "dtype", "size", "views",
    "per_device_batch", "accumulation", "global_batch", "remat", "level",
)  # fmt: skip


def plan(
    config: ml_collections.ConfigDict,
    topology: str,
    per_device: int,
    num_inputs: int,
    level: str = LEVEL,
) -> dict:
    """One row of the table; ``fits`` is False, with the compiler's words, when memory is short."""
    devices = devices_of(topology, config.slices)
    chip = CHIPS[topology.split(":")[0]]
    row = {
        "variant": config.variant,
        "topology": topology,
        "devices": len(devices),
        "slices": config.slices,
        "parallel": config.parallel,
        "gather": config.gather,
        "mesh": list(config.mesh),
        "dtype": config.dtype,
        "size": [config.data.height, config.data.width],
        "views": num_inputs,
        "per_device_batch": per_device,
        "accumulation": config.accumulation,
        "global_batch": per_device * len(devices) // config.mesh[1],
        "remat": config.remat,
        "level": level,
    }
    started, started_cpu = time.perf_counter(), time.process_time()

    def clocks() -> dict:
        wall, cpu = time.perf_counter() - started, time.process_time() - started_cpu
        return {"compile_s": wall, "compile_cpu_s": cpu}

    try:
        compiled, judged = compile_for(config, devices, per_device, num_inputs, level)
    except jax.errors.JaxRuntimeError as error:
        found = re.search(r"Used [\d.]+[GM] of [\d.]+[GM] hbm", str(error))
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        words = found[0] if found else str(error)[:200]
        sys.stderr.write(f"{error}\n")
        return row | {"fits": False, "why": words, **clocks()}
    memory = compiled.memory_analysis()
    sent = interconnect_bytes(compiled.as_text())
    return row | {
        "fits": True,
        **clocks(),
        "arguments_gib": memory.argument_size_in_bytes / GIB,
        "temporaries_gib": memory.temp_size_in_bytes / GIB,
        "peak_gib": memory.peak_memory_in_bytes / GIB,
        "evaluation_peak_gib": judged.memory_analysis().peak_memory_in_bytes / GIB,
        "interconnect_gib": sent / GIB,
        "interconnect_s": sent / chip.interconnect,
    }


def with_row(rows: list[dict], row: dict) -> list[dict]:
    """The rows with one more, which takes the place of the one of the same settings."""
    return [old for old in rows if any(old.get(key) != row[key] for key in SETTINGS)] + [row]


COLUMNS = {
    "model": lambda r: f"{r['variant']}, {r['views']} views",
    "slice": lambda r: (
        f"{r['slices']} x " * (r.get("slices", 1) > 1) + f"{r['topology']} ({r['devices']} chips)"
    ),
    "state": lambda r: r["parallel"],
    "samples a chip, in parts": lambda r: f"{r['per_device_batch']} in {r['accumulation']}",
    "global batch": lambda r: r["global_batch"],
    "peak GiB": lambda r: f"{r['peak_gib']:.1f}" if r["fits"] else r["why"],
    "of evaluation": lambda r: (
        f"{r['evaluation_peak_gib']:.1f}" if "evaluation_peak_gib" in r else ""
    ),
    "arguments + temporaries GiB": lambda r: (
        f"{r['arguments_gib']:.1f} + {r['temporaries_gib']:.1f}" if r["fits"] else ""
    ),
    "TFLOP a chip": lambda r: f"{r['tflop']:.0f}" if "tflop" in r else "",
    "interconnect GiB": lambda r: f"{r['interconnect_gib']:.1f}" if r["fits"] else "",
    "estimated step s": lambda r: f"{r['estimated_step_s']:.2f}" if "tflop" in r else "",
    "compile CPU s": lambda r: f"{r['compile_cpu_s']:.0f}",
}


def table(rows: list[dict]) -> str:
    """Rows of a results file as Markdown."""
    return tables.table(list(COLUMNS), ([cell(r) for cell in COLUMNS.values()] for r in rows))


def main() -> None:
    """Prints one plan, optionally puts it into a JSON file, or the table of such a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/mvdp_stage1.py")
    parser.add_argument("--topology", default="v5e:16x16", help="(default: %(default)s)")
    parser.add_argument("--per_device", type=int, help="samples a device; default: all shared")
    parser.add_argument("--views", type=int, help="input views; default: the config's largest")
    parser.add_argument("--level", choices=LEVELS, default=LEVEL, help="of the compiler's effort")
    parser.add_argument("--no_flops", action="store_true", help="skip the unrolled count")
    parser.add_argument("--json", type=Path, help="put the row into this file")
    parser.add_argument("--table", type=Path, metavar="JSON", help="only print this file's rows")
    parser.add_argument("overrides", nargs="*", help="config fields: parallel=fsdp accumulation=2")
    args = parser.parse_args()
    if args.table:
        sys.stdout.write(table(json.loads(args.table.read_text())) + "\n")
        return
    # Programs for chips that are not here can be written to the cache, but not be read back.
    jax.config.update("jax_enable_compilation_cache", False)
    config = load_config(args.config, args.overrides)
    build.check(config)
    num_inputs = args.views or max(config.data.num_inputs)
    kind = args.topology.split(":")[0]
    if kind not in CHIPS:
        sys.exit(f"unknown kind of TPU {kind!r}; known: {sorted(CHIPS)}")
    per_device = args.per_device
    if per_device is None:
        count = len(devices_of(args.topology, config.slices))
        per_device = max(config.data.batch_size * config.mesh[1] // count, 1)
    row = plan(config, args.topology, per_device, num_inputs, args.level)
    if row["fits"] and not args.no_flops:
        chip = CHIPS[kind]
        row["tflop"] = count_flops(config, per_device, num_inputs) / 1e12
        compute = row["tflop"] * 1e12 / (chip.flops * ASSUMED_UTILIZATION)
        row["estimated_step_s"] = compute + row["interconnect_s"]
        row["assumptions"] = (
            f"{ASSUMED_UTILIZATION:.0%} of {chip.flops / 1e12:.0f} bf16 TFLOP/s a chip, remat not "
            "counted, no overlap with communication, rasterizer's loops not counted"
        )
    for name, value in row.items():
        sys.stdout.write(
            f"{name:18s} {value:.3f}\n" if isinstance(value, float) else f"{name:18s} {value}\n"
        )
    if args.json:
        rows = json.loads(args.json.read_text()) if args.json.exists() else []
        args.json.write_text(json.dumps(with_row(rows, row), indent=1) + "\n")


if __name__ == "__main__":
    main()
