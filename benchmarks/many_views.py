"""Memory and time of whole reconstructions from many photographs, as a user runs them.

    python -m benchmarks.many_views --cases mvdp:4:4,mvdp:24:4,mvd:100:1

A case is VARIANT:VIEWS:REFERENCES. Each writes random weights to a temporary file, makes
photographs of noise, and runs ``mvdust3r reconstruct`` on them in a process of its own, whose peak
resident memory the system reports. Pages of the weights' file count into it, although the system
may take them back. Seconds of the stages are the command's own; CPU seconds are those of all cores.
Cases are added to benchmarks/results/many_views.json, which ``--table`` prints.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.machine import read_results, results_path, write_results
from mvdust3r_jax import VARIANTS
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.models.network import random_variables
from mvdust3r_jax.reconstruction import memory
from mvdust3r_jax.weights import files as weight_files

_GIB = 1 << 30
_HEADINGS = ("weights", "size", "V", "R", "peak GiB", "estimate GiB", "compile s", "network s")
_HEADINGS += ("cameras s", "all wall s", "all CPU s", "TFLOP")


def write_weights(path: Path, variant: str, size: tuple[int, int]) -> None:
    """Small random weights of the variant, without batch statistics that are negative."""
    config = VARIANTS[variant]
    weight_files.save_weights(path, random_variables(config), config, image_size=size)


def write_photographs(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Noise of twice the network's size."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(count):
        pixels = rng.integers(0, 255, (2 * size[0], 2 * size[1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:04d}.jpg")


def run_case(variant: str, views: int, refs: int, size: tuple[int, int], export: str) -> dict:
    """One reconstruction in its own process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In another process: a child inherits its parent's peak until it has become the command.
        arguments = folder / "w.safetensors", variant, size
        writer = multiprocessing.get_context("spawn").Process(target=write_weights, args=arguments)
        writer.start()
        writer.join()
        write_photographs(folder / "photos", views, size)
        command = [sys.executable, "-m", "mvdust3r_jax.cli", "reconstruct", str(folder / "photos")]
        command += ["--out", str(folder / "out"), "--weights", str(folder / "w.safetensors")]
        command += ["--refs", str(refs), "--export", export, "--json"]
        begin = time.perf_counter()
        with open(folder / "result.json", "w") as out:
            # Settings that make the allocator keep what it could give back would be measured too.
            clean = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
            process = subprocess.Popen(command, stdout=out, env=clean)
            _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
        seconds = json.loads((folder / "result.json").read_text())["seconds"]
    needed = memory.estimate(VARIANTS[variant], views, refs, *size)
    return {
        "weights": variant,
        "size": f"{size[0]}x{size[1]}",
        "V": views,
        "R": refs,
        "peak GiB": usage.ru_maxrss * 1024 / _GIB,
        "estimate GiB": needed.bytes / _GIB,
        "compile s": seconds["compile"],
        "network s": seconds["network"],
        "cameras s": seconds["cameras"],
        "all wall s": wall_s,
        "all CPU s": usage.ru_utime + usage.ru_stime,
        "TFLOP": needed.flops / 1e12,
        "load": os.getloadavg()[0],
    }


def table(rows: list[dict]) -> str:
    """Markdown."""

    def text(value):
        return f"{value:.3g}" if isinstance(value, float) else value

    return tables.table(_HEADINGS, ([text(row.get(name)) for name in _HEADINGS] for row in rows))


def main() -> None:
    """Run the cases and keep their rows beside those of earlier runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default="", help="VARIANT:VIEWS:REFERENCES, comma-separated")
    parser.add_argument("--size", type=int, nargs=2, default=(224, 224), metavar=("H", "W"))
    parser.add_argument("--export", default="ply,glb,cameras,preview", help="formats to write")
    parser.add_argument("--table", action="store_true", help="only print what was measured")
    args = parser.parse_args()
    kept = read_results("many_views") if results_path("many_views").exists() else []
    for case in filter(None, args.cases.split(",")):
        variant, views, refs = case.split(":")
        row = run_case(variant, int(views), int(refs), tuple(args.size), args.export)
        same = ("weights", "size", "V", "R")
        kept = [r for r in kept if any(r[key] != row[key] for key in same)] + [row]
        kept.sort(key=lambda r: (r["weights"], r["size"], r["V"], r["R"]))
        write_results("many_views", kept)
    print(table(kept))


if __name__ == "__main__":
    main()
