"""A long run of tiny steps: does memory stay flat, and is anything compiled again?

    python -m benchmarks.soak --steps 2000

Runs ``train.py`` on configs/tiny.py in a process of its own, with an evaluation, a checkpoint and
pictures every hundred steps, and reads the process's resident memory once a second. Reported are
the memory's medians over tenths of the run, its growth from the third tenth to the last (the first
hold compilation), and the steps at which XLA compiled something.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import write_results

EVERY = 100


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def last_step(metrics: Path) -> int:
    """The newest step in a metrics file, 0 without any."""
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def soak(steps: int, workdir: Path, overrides: list[str]) -> dict:
    """Runs the training and watches it."""
    intervals = ("eval_every", "checkpoint_every", "pictures_every")
    command = [sys.executable, "train.py", "--config", "configs/tiny.py"]
    command += ["--workdir", str(workdir), f"--config.total_steps={steps}"]
    command += [f"--config.{name}={EVERY}" for name in intervals]
    command += [f"--config.{override}" for override in overrides]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=sys.stderr, stderr=sys.stderr)
    seen = []
    while process.poll() is None:
        time.sleep(1)
        try:
            seen.append((last_step(workdir / "metrics.jsonl"), resident_mb(process.pid)))
        except (FileNotFoundError, ProcessLookupError, IndexError):
            break
    if process.wait():
        raise RuntimeError(f"training ended with {process.returncode}")
    lines = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    at, memory = np.array(seen).T
    tenths = [memory[(at >= k * steps / 10) & (at < (k + 1) * steps / 10)] for k in range(10)]
    medians = [round(float(np.median(t)), 1) for t in tenths if len(t)]
    compiles = [(x["step"], x["count"]) for x in lines if x["kind"] == "compile"]
    return {
        "steps": steps,
        "wall_s": round(time.perf_counter() - started, 1),
        "evaluations": sum(x["kind"].startswith("eval_") for x in lines),
        "resident_mb_by_tenth": medians,
        "growth_mb": round(medians[-1] - medians[min(2, len(medians) - 1)], 1),
        "compiled_at_steps": compiles,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("overrides", nargs="*", help="config fields: data.source=rooms")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = soak(args.steps, Path(folder) / "run", args.overrides)
    print(json.dumps(result, indent=1))
    write_results("soak", result)


if __name__ == "__main__":
    main()
