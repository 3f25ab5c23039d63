"""``mvdust3r bench``: how fast the network runs here, against what the machine can do."""

from __future__ import annotations

import argparse
import dataclasses
import platform
import statistics
import time
from typing import Any

import jax
import numpy as np

from mvdust3r_jax import allotted
from mvdust3r_jax.cli import inputs
from mvdust3r_jax.cli.console import Console
from mvdust3r_jax.models.config import VARIANTS
from mvdust3r_jax.models.flops import computed_flops
from mvdust3r_jax.models.network import random_variables
from mvdust3r_jax.reconstruction import machine as machine_facts
from mvdust3r_jax.reconstruction import memory
from mvdust3r_jax.reconstruction.model import Model
from mvdust3r_jax.reconstruction.network import compiled_program

_HEADINGS = ("V", "R", "compile s", "run s", "TFLOP", "of matmul", "estimate GiB", "program GiB")


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure with random weights, one row per number of views."""
    if not args.cold:
        inputs.use_compilation_cache(console)
    else:
        jax.config.update("jax_enable_compilation_cache", False)
    rate = machine_facts.measured_flops_per_second(args.dtype, size=2048)
    model = random_model(args.variant, args.dtype, args.size)
    console.say(f"{args.variant}, {args.dtype}, {args.size[0]}x{args.size[1]}")
    console.say(f"matrix products: {rate / 1e9:.0f} GFLOP/s")
    console.say("  ".join(f"{name:>12s}" for name in _HEADINGS))
    rows = []
    refs = min(args.refs, max(args.views)) if model.config.cross_ref else 1
    memory.check(model.config, max(args.views), refs, *args.size)
    for views in args.views:
        row = measure(model, views, min(args.refs, views), args.repeats, rate)
        rows.append(row)
        console.say("  ".join(f"{value:12.3g}" for value in row.values()))
    return {"machine": machine(), "variant": args.variant, "dtype": args.dtype, "rows": rows}


def random_model(variant: str, dtype: str, size: tuple[int, int]) -> Model:
    """The variant with small random weights; times do not depend on their values."""
    config = dataclasses.replace(VARIANTS[variant], dtype=dtype)
    return Model(config, jax.device_put(random_variables(config)), size, variant)


def measure(model: Model, views: int, refs: int, repeats: int, rate: float) -> dict[str, float]:
    """Compile and run; times in seconds, the median of the repeats.

    "of matmul" is of what is computed (on CPUs less than TFLOP, by Winograd's algorithm).
    """
    height, width = model.image_size
    refs = refs if model.config.cross_ref else 1
    pixels = np.random.default_rng(1).integers(0, 255, (views, height, width, 3), np.uint8)
    first = np.int32(0)
    begin = time.perf_counter()
    program = compiled_program(model, pixels.shape, refs)
    compile_s = time.perf_counter() - begin
    jax.block_until_ready(program(model.variables, pixels, first))
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(program(model.variables, pixels, first))
        times.append(time.perf_counter() - begin)
    run_s = statistics.median(times)
    needed = memory.estimate(model.config, views, refs, height, width)
    size = dict(views=views, num_refs=refs, height=height, width=width)
    computed = computed_flops(model.config, jax.default_backend(), **size)
    used = program.memory_analysis()
    held = used.argument_size_in_bytes + used.output_size_in_bytes + used.temp_size_in_bytes
    values = (views, refs, compile_s, run_s, needed.flops / 1e12, computed / rate / run_s)
    return dict(zip(_HEADINGS, (*values, needed.bytes / 2**30, held / 2**30), strict=True))


def machine() -> dict[str, Any]:
    """What the numbers belong to."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "devices": jax.device_count(),
        "processor": processor(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "peak_gib": (memory.peak_bytes() or 0) / 2**30,
    }


def processor() -> str:
    """The CPU's name, where the system tells it, and how many threads it runs at once."""
    name = machine_facts.processor().get("model name", platform.processor())
    return f"{name}, {allotted.cores()} threads"
