"""Time and memory of loading and converting a full-size checkpoint.

    python -m benchmarks.weights

Writes a random MV-DUSt3R+ checkpoint in PyTorch's format (2.6 GB, removed at the end) and loads it
in fresh processes. CPU seconds are given because other programs disturb them less than wall time.
"above tensors" is the peak resident memory, imports included, beyond the network's own size.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import write_results
from mvdust3r_jax.models.mvdust3r import abstract_variables

STEPS = ("state dict", "network", "to safetensors", "from safetensors", "back to pth")
_MIB = 1 << 20


def make_checkpoint(path: Path, variant: str) -> int:
    """A random checkpoint; returns the bytes of its tensors."""
    import jax
    import numpy as np

    from mvdust3r_jax import VARIANTS
    from mvdust3r_jax.weights import files as weight_files

    rng = np.random.default_rng(0)
    tree = abstract_variables(VARIANTS[variant])
    variables = jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), tree)
    weight_files.save_weights(path, variables, VARIANTS[variant], image_size=(224, 224))
    return sum(x.nbytes for x in jax.tree.leaves(variables))


def run_step(step: str, path: Path) -> None:
    """One step in this process; prints seconds and peak memory before and after."""
    from mvdust3r_jax.weights import files as weight_files
    from mvdust3r_jax.weights import port

    converted = path.with_suffix(".safetensors")
    begin, begin_cpu = time.perf_counter(), time.process_time()
    if step == "state dict":
        port.load_torch_checkpoint(path)
    elif step == "network":
        weight_files.load_weights(path)
    elif step == "to safetensors":
        weight_files.convert(path, converted)
    elif step == "from safetensors":
        weight_files.load_weights(converted)
    else:
        weight_files.convert(converted, path.with_name("back.pth"))
    row = {"seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - begin_cpu}
    print(json.dumps(row | {"peak_mib": peak_mib()}))


def peak_mib() -> float:
    """This program's largest resident memory (getrusage would count the parent's before exec)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


def main() -> None:
    """Run all steps, print the table, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", default="mvdp")
    parser.add_argument("--step", choices=STEPS, help="one step on an existing file (internal)")
    parser.add_argument("--file", type=Path)
    args = parser.parse_args()
    if args.step:
        run_step(args.step, args.file)
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pth"
        tensor_mib = make_checkpoint(path, args.variant) / _MIB
        for step in STEPS:
            command = [sys.executable, "-m", "benchmarks.weights", "--step", step]
            command += ["--file", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            row = {"step": step, **json.loads(done.stdout.splitlines()[-1])}
            rows.append(row | {"above_tensors_mib": row["peak_mib"] - tensor_mib})
    print(f"{args.variant}: tensors of {tensor_mib:.0f} MiB")
    print(f"{'step':18s} {'seconds':>8s} {'CPU s':>8s} {'peak MiB':>9s} {'above tensors':>14s}")
    for row in rows:
        times = f"{row['seconds']:8.2f} {row['cpu_seconds']:8.2f}"
        memory = f"{row['peak_mib']:9.0f} {row['above_tensors_mib']:14.0f}"
        print(f"{row['step']:18s} {times} {memory}")
    write_results("weights", {"variant": args.variant, "tensor_mib": tensor_mib, "rows": rows})


if __name__ == "__main__":
    main()
