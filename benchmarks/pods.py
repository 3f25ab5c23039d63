"""A pod on this machine: many hosts train together, one is killed, fewer go on; one curve?

    python -m benchmarks.pods --hosts 8 --again 4 --steps 200 --kill 120 --out runs/pods

Hosts are processes with simulated chips. All train the same run (``fsdp``, mesh of batch and view
shards) of a network so small that its arrays are cut only by a lower threshold. One host is killed
with SIGKILL; what the others do, and after how long, is measured. Then the run goes on with
``--again`` hosts, and its losses are compared with those of one process. Writes
benchmarks/results/pods.json and docs/images/pods.png.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.machine import write_results

CHIPS = 16
ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "pods.png"


def settings(steps: int):
    """The run's configuration: boxes of 8 x 8 pixels, four views of which two lie on a chip."""
    from configs import tiny

    config = tiny.get_config()
    config.variant, config.parallel, config.mesh, config.num_refs = "pods", "fsdp", (0, 2), 1
    config.data.height = config.data.width = 8
    config.data.batch_size, config.data.num_inputs, config.data.num_targets = 16, (4,), 0
    config.total_steps, config.warmup_steps = steps, 10
    config.eval_every = config.pictures_every = 0
    config.checkpoint_every, config.log_every, config.tensorboard = 20, 1, False
    config.stall_minutes = 10.0
    return config


def train_here(folder: Path, steps: int) -> int:
    """One host's part, in this process."""
    from absl import logging

    from mvdust3r_jax import VARIANTS, ModelConfig
    from mvdust3r_jax.training import sharded

    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().addFilter(lambda record: "orbax" not in record.pathname)
    VARIANTS["pods"] = ModelConfig(16, 1, 1, 16, 1, 1, patch=4, skip=False, gaussians=False)
    sharded.MIN_SHARDED_SIZE = 256
    return runpy.run_path(str(ROOT / "train.py"))["train"](settings(steps), folder)


def host(index: int, count: int, port: int, folder: Path, steps: int) -> int:
    """A host of several: its own chips, found by the others at the port."""
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={CHIPS // count}"
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_default_matmul_precision", "float32")
    if count > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", count, index)
    return train_here(folder, steps)


def start(count: int, folder: Path, steps: int, name: str) -> list[subprocess.Popen]:
    """All hosts of a run; what they say goes to ``NAME.INDEX.txt`` beside it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for index in range(count):
        numbers = (index, count, port, folder, steps)
        command = [sys.executable, "-m", "benchmarks.pods", "--one", *map(str, numbers)]
        with open(folder.with_name(f"{name}.{index}.txt"), "w") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
    return started


def last_step(folder: Path) -> int:
    """The newest step in the metrics, 0 without any."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def losses(folder: Path) -> dict[int, float]:
    """Loss of each step."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return {r["step"]: r["loss"] for r in map(json.loads, lines) if r["kind"] == "train"}


def killed(hosts: int, at: int, folder: Path, steps: int) -> dict:
    """Trains until a step, kills the last host; when and how the others end."""
    running = start(hosts, folder, steps, "first")
    while last_step(folder) < at:
        time.sleep(0.2)
        if any(process.poll() is not None for process in running):
            for process in running:
                process.kill()
            raise RuntimeError(f"a host has ended; see {folder.with_name('first.0.txt')}")
    running[-1].send_signal(signal.SIGKILL)
    began = time.monotonic()
    ended = {}
    for index, process in enumerate(running):
        code = process.wait(1200)
        ended[index] = {"code": code, "after_s": round(time.monotonic() - began, 1)}
    return {"killed_at": last_step(folder), "hosts": ended}


def compare(folder: Path, alone: Path) -> dict:
    """The largest relative difference of any step's loss."""
    one, other = losses(folder), losses(alone)
    assert sorted(one) == sorted(other), "steps are missing"
    relative = [abs(one[step] / other[step] - 1) for step in one]
    return {"steps": len(one), "largest_relative_difference": float(np.max(relative))}


def draw(folder: Path, alone: Path, found: dict) -> None:
    """Both curves, and where a host was killed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    axes.plot(*zip(*losses(alone).items(), strict=True), color="0.6", lw=4, label="one process")
    label = f"{found['hosts']} hosts, then {found['again']}"
    axes.plot(*zip(*losses(folder).items(), strict=True), color="C0", lw=1, label=label)
    axes.axvline(found["kill"]["killed_at"], color="C3", ls=":", label="one host killed (SIGKILL)")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend()
    figure.savefig(PICTURE, dpi=110)


def main() -> int:
    """Runs everything, or one host's part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--again", type=int, default=4)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--kill", type=int, default=120, help="after this step")
    parser.add_argument("--out", type=Path, default=Path("runs/pods"))
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        index, count, port, folder, steps = args.one
        return host(int(index), int(count), int(port), Path(folder), int(steps))
    folder, alone = args.out.resolve() / "pod", args.out.resolve() / "alone"
    if held := [str(path) for path in (folder, alone) if path.exists()]:
        parser.error(f"{held[0]} is there already: a run that is over has no host to kill")
    args.out.mkdir(parents=True, exist_ok=True)
    found = {"hosts": args.hosts, "again": args.again, "chips": CHIPS}
    found["kill"] = killed(args.hosts, args.kill, folder, args.steps)
    for name, count, place in (("again", args.again, folder), ("alone", 1, alone)):
        codes = [process.wait() for process in start(count, place, args.steps, name)]
        if any(codes):
            raise RuntimeError(f"{name}: exit codes {codes}; see {args.out / name}.0.txt")
    found |= compare(folder, alone)
    print(json.dumps(found, indent=1))
    write_results("pods", found)
    draw(folder, alone, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
