"""From the start of a process to the first result of an exported program.

    python -m benchmarks.serving --variant mvdp --views 4

Writes random weights, exports them with ``mvdust3r_jax.reconstruction.serving`` in one process, and
starts a fresh one that imports, loads and runs twice: the difference of the two runs is what the
first one costs beyond its work. Wall and processor seconds (of all cores together).
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
from benchmarks.many_views import write_weights

_EXPORT = """
import sys
from mvdust3r_jax import load_model, serving
serving.export_program(sys.argv[1], load_model(sys.argv[2]), int(sys.argv[3]), 4)
"""
_SERVE = """
import json, sys, time
marks = {"start": (float(sys.argv[2]), 0.0)}
def mark(name):
    marks[name] = time.time(), time.process_time()
import numpy as np
from mvdust3r_jax import serving
mark("import")
run = serving.load_program(sys.argv[1])
mark("load")
photographs = np.random.default_rng(0).integers(0, 255, run.shape, np.uint8)
for name in ("first result", "second result"):
    run(photographs)
    mark(name)
names = list(marks)
print(json.dumps({
    after: {"s": marks[after][0] - marks[before][0], "cpu_s": marks[after][1] - marks[before][1]}
    for before, after in zip(names, names[1:])
}))
"""


def measure(variant: str, views: int, size: tuple[int, int]) -> dict:
    """Seconds of each stage of the fresh process, and of the export."""
    with tempfile.TemporaryDirectory() as name:
        weights, folder = Path(name) / "w.safetensors", Path(name) / "served"
        write_weights(weights, variant, size)
        begin = time.perf_counter()
        export = [sys.executable, "-c", _EXPORT, str(folder), str(weights), str(views)]
        subprocess.run(export, check=True)
        result = {"variant": variant, "views": views, "export_s": time.perf_counter() - begin}
        weights.unlink()
        serve = [sys.executable, "-c", _SERVE, str(folder), str(time.time())]
        stages = json.loads(subprocess.run(serve, check=True, capture_output=True).stdout)
    ready = ("import", "load", "first result")
    for kind in ("s", "cpu_s"):
        beyond = sum(stages[stage][kind] for stage in ready) - stages["second result"][kind]
        result[f"beyond_one_run_{kind}"] = beyond
    return result | {"stages": stages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="mvdp")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--name", default="serving", help="of the results file")
    args = parser.parse_args()
    result = measure(args.variant, args.views, (args.size, args.size))
    print(json.dumps(result, indent=1))
    write_results(args.name, result)


if __name__ == "__main__":
    main()
