"""Time, memory and operations of the forward pass, on whatever device JAX finds.

    python -m benchmarks.forward --views 2,4,8 --json forward

Weights are random. Every case runs in a fresh process, so that its peak memory is its own, and
measures the rate of a plain matrix product before and after itself: ``share`` is the operations
that are computed over time, relative to that rate (on CPUs fewer than the network's own, because
wide convolutions take Winograd's algorithm). On CPUs all is also given in CPU time (over
the number of cores): other processes disturb that less than wall time. ``compile_s`` is without
any cache, ``cached_s`` with the program in the persistent cache. Rows join those of earlier calls
in the file; ``python -m benchmarks.plot_forward`` draws them.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.clock import clock, matmul_rate, random_variables
from benchmarks.machine import read_results, results_path, write_results
from mvdust3r_jax import VARIANTS, MVDust3r
from mvdust3r_jax.cameras.from_pointmaps import poses_from_pointmaps
from mvdust3r_jax.models.decoder import decoder_of
from mvdust3r_jax.models.encoder import encoder_of
from mvdust3r_jax.models.flops import computed_flops, forward_flops
from mvdust3r_jax.models.heads import SkipCnn
from mvdust3r_jax.reconstruction.memory import peak_bytes

# What tells rows of a results file apart.
CASE = ("variant", "dtype", "height", "width", "views", "num_refs")


def stage_times(config, variables, images, num_refs: int, repeat: int) -> dict:
    """Encoder, decoder (with cross-reference blocks, and without) and skip CNN on their own."""
    params = variables["params"]
    batch, views, height, width, _ = images.shape
    grid = height // config.patch, width // config.patch
    encoder = encoder_of(config)
    times = {
        "encoder": clock(jax.jit(encoder.apply), _own(params, "encoder"), images, repeat=repeat)
    }
    tokens = jnp.zeros((batch, views, grid[0] * grid[1], config.enc_dim))

    def decode(cross_ref: bool, all_paths: bool):
        decoder = decoder_of(dataclasses.replace(config, cross_ref=cross_ref))
        run = jax.jit(lambda p, t: decoder.apply(p, t, grid, num_refs, all_paths)[0])
        return clock(run, _own(params, "decoder"), tokens, repeat=repeat)

    times["decoder"] = decode(False, config.cross_ref)
    if config.cross_ref:
        whole = decode(True, False)
        times["cross_ref"] = {k: whole[k] - times["decoder"][k] for k in whole}
    if config.skip:
        cnn = SkipCnn(config.skip_width, config.dtype)
        own = {c: variables[c]["src_skip_cnn"] for c in ("params", "batch_stats")}
        run = jax.jit(lambda v, x: cnn.apply(v, x, x, False))
        times["skip_cnn"] = clock(run, own, images, repeat=repeat)
    return times


def _own(params, name: str) -> dict:
    return {"params": params[name]}


def compile_forward(model, num_refs: int, variables, images):
    """(seconds, compiled forward pass)."""
    start = time.perf_counter()
    forward = jax.jit(lambda v, x: model.apply(v, x, num_refs=num_refs))
    compiled = forward.lower(variables, images).compile()
    return time.perf_counter() - start, compiled


def pose_time(views: int, height: int, width: int, repeat: int) -> dict:
    """Cameras of all views from their pointmaps: a plane with noise, seen from its own camera."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / width - 0.5
    points = np.stack([x, y, np.ones_like(x)], -1) + 0.01 * rng.standard_normal(
        (1, views, *x.shape, 3)
    )
    points = jnp.asarray(points, jnp.float32)
    focal_px = jnp.full(1, float(width))
    return clock(
        jax.jit(poses_from_pointmaps), points, jnp.ones(points.shape[:-1]), focal_px, repeat=repeat
    )


def measure(args) -> dict:
    """One case, in this process."""
    config = dataclasses.replace(VARIANTS[args.variant], dtype=args.dtype)
    views = int(args.views)
    num_refs = min(args.num_refs, views)
    height, width = args.height, args.width
    size = dict(views=views, num_refs=num_refs, height=height, width=width)
    flops = forward_flops(config, **size)
    computed = computed_flops(config, jax.default_backend(), **size)
    variables = random_variables(config)
    images = jnp.zeros((1, views, height, width, 3))
    model = MVDust3r(config)
    rates = [matmul_rate(args.dtype)]
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        compile_s, _ = compile_forward(model, num_refs, variables, images)
        jax.clear_caches()
        cached_s, forward = compile_forward(model, num_refs, variables, images)
    jax.config.update("jax_enable_compilation_cache", False)
    times = clock(forward, variables, images, repeat=args.repeat)
    memory = peak_bytes()
    stages = stage_times(config, variables, images, num_refs, args.repeat) if args.stages else {}
    if args.stages:
        stages["pose"] = pose_time(views, height, width, args.repeat)
    rates.append(matmul_rate(args.dtype))
    rate = {key: max(r[key] for r in rates) for key in rates[0]}
    return {
        "variant": args.variant,
        "dtype": args.dtype,
        "load_average": os.getloadavg()[0],
        "views": views,
        "num_refs": num_refs,
        "height": height,
        "width": width,
        "compile_s": compile_s,
        "cached_s": cached_s,
        **times,
        "flops": flops,
        "computed_flops": computed,
        "matmul_rate": rate,
        "share": {key: computed / times[key] / rate[key] for key in times},
        "peak_bytes": memory,
        "stages": stages,
    }


def run_case(views: int, args) -> dict:
    """One case in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.forward", "--one", "--views", str(views)]
    for name in ("variant", "dtype", "height", "width", "num_refs", "repeat"):
        command += [f"--{name}", str(getattr(args, name))]
    command += [] if args.stages else ["--no-stages"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = result.stderr[-2000:] or "killed, perhaps for lack of memory"
        raise RuntimeError(f"the case of {views} views ended with {result.returncode}: {reason}")
    return json.loads(result.stdout.splitlines()[-1])


def merged(name: str, rows: list[dict]) -> list[dict]:
    """Earlier rows of the results and these, which replace those of the same case."""
    earlier = read_results(name) if results_path(name).exists() else []
    by_case = {tuple(row[name] for name in CASE): row for row in [*earlier, *rows]}
    return [by_case[case] for case in sorted(by_case)]


def table(rows: list[dict]) -> str:
    """The cases as text."""
    lines = [
        f"{'V':>4}{'R':>3}{'compile s':>11}{'cached s':>10}{'wall s':>9}{'CPU s':>8}{'TFLOP':>8}"
        f"{'GFLOP/s':>9}{'matmul':>8}{'share':>7}{'CPU share':>11}{'peak GB':>9}"
    ]
    for r in rows:
        total = r["computed_flops"]
        lines.append(
            f"{r['views']:>4}{r['num_refs']:>3}{r['compile_s']:>11.1f}{r['cached_s']:>10.1f}{r['s']:>9.2f}"
            f"{r['cpu_s']:>8.2f}{total / 1e12:>8.2f}{total / r['s'] / 1e9:>9.0f}"
            f"{r['matmul_rate']['s'] / 1e9:>8.0f}{r['share']['s']:>7.0%}"
            f"{r['share']['cpu_s']:>11.0%}{r['peak_bytes'] / 1e9:>9.1f}"
        )
    for r in rows:
        if r["stages"]:
            parts = (
                f"{name} {t['s']:.2f} s ({t['cpu_s']:.2f} CPU)" for name, t in r["stages"].items()
            )
            lines.append(f"V = {r['views']}: " + ", ".join(parts))
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="mvdp", choices=sorted(VARIANTS))
    parser.add_argument("--views", default="2,4,8", help="numbers of views, comma-separated")
    parser.add_argument("--num_refs", type=int, default=4, help="at most; never more than views")
    parser.add_argument("--height", type=int, default=224)
    parser.add_argument("--width", type=int, default=224)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--stages", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--json", metavar="NAME", help="also write the rows to benchmarks/results/NAME.json"
    )
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args)))
        return
    rows = [run_case(int(v), args) for v in args.views.split(",")]
    print(table(rows))
    if args.json:
        write_results(args.json, merged(args.json, rows))


if __name__ == "__main__":
    main()
