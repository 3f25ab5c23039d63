"""What waits around the network: `mvdust3r reconstruct` of eight photographs, from start to end.

    python -m benchmarks.start [--print]

Every row is a fresh process, in one run; the user's cache is a new folder. Processor seconds are of
all cores together, so that other programs disturb them little, and are also given in imports of
JAX. A first run traces and compiles, a second one finds what the first has kept. ``--print`` leaves
the kept results as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import write_results

ROOT = Path(__file__).parents[1]
PHOTOGRAPHS, WEIGHTS = ROOT / "examples/room/photographs", ROOT / "weights/room_mvd.safetensors"
# What the parts of a run are, in order.
PARTS = ("import", "weights", "read", "trace", "compile or load", "network", "cameras", "write")
# Parts of one run, one after the other where the command does two at a time.
_PARTS = """
import json, sys, tempfile, time
from pathlib import Path
parts = dict.fromkeys(json.loads(sys.argv[1]), 0.0)
last = 0.0
def ends(name):
    global last
    now = time.process_time()
    parts[name] += now - last
    last = now
import mvdust3r_jax.cli.reconstruct
from mvdust3r_jax import load_model
from mvdust3r_jax.reconstruction import memory, machine, network, programs, reconstruct as run
from mvdust3r_jax.reconstruction import scene_cameras
ends("import")
programs.keep_programs()
model = load_model(sys.argv[2])
size, refs = model.image_size, 4 if model.config.cross_ref else 1
memory.check(model.config, 8, refs, *size)
machine.flops_per_second()
ends("weights")
files = sorted(Path(sys.argv[3]).iterdir())
photos, fitted = run._read(files, *size, "crop", run.KnownCameras(), None)
pixels = run.np.stack([f.pixels for f in fitted])
ends("read")
traced = programs._traced
def told(*given):
    ends("compile or load")
    result = traced(*given)
    ends("trace")
    return result
programs._traced = told
reference = network.default_reference(model.config, 8, refs, *size)
ask = network.asking(model, pixels.shape, refs, reference)
cameras = scene_cameras.camera_programs(*pixels.shape[:3], "auto")
ends("compile or load")
answer = ask(model.variables, pixels)
ends("network")
scene = run._scene(photos, [p.name for p in photos], fitted, answer, None, cameras, "auto")
ends("cameras")
with tempfile.TemporaryDirectory() as folder:
    scene.save(folder, ["ply", "glb", "cameras", "preview"])
ends("write")
result = {"parts": parts}
if "again" in sys.argv:
    begin = time.process_time()
    run.reconstruct(files[::-1], model)
    middle = time.process_time()
    ask(model.variables, pixels)
    result["beyond"] = middle - begin - (time.process_time() - middle)
print(json.dumps(result))
"""


def seconds_of(command: list[str], environment: dict[str, str]) -> tuple[dict[str, float], str]:
    """Wall and processor seconds of a process to its end, and what it printed."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"s": wall, "cpu_s": used}, done.stdout


def measure() -> dict:
    """The rows of whole commands, and the parts of a first and a second run."""
    with tempfile.TemporaryDirectory() as folder:
        kept_apart = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
        environment = kept_apart | {"XDG_CACHE_HOME": f"{folder}/cache"}

        def run(*arguments: str) -> tuple[dict[str, float], str]:
            return seconds_of([sys.executable, *arguments], environment)

        parts = ["-c", _PARTS, json.dumps(PARTS), str(WEIGHTS), str(PHOTOGRAPHS)]
        command = ["-m", "mvdust3r_jax", "reconstruct", str(PHOTOGRAPHS), "--quiet"]
        command += ["--weights", str(WEIGHTS), "--out", f"{folder}/scene"]
        run("-c", "import jax")  # files are in memory from here on
        rows = {"import jax": run("-c", "import jax")[0]}
        rows["mvdust3r --help"] = run("-m", "mvdust3r_jax", "--help")[0]
        rows["reconstruct, first run"], first = run(*parts)
        rows["reconstruct, second run"] = run(*command)[0]
        second = run(*parts, "again")[1]
    found = {name: json.loads(text) for name, text in (("first", first), ("second", second))}
    return {
        "rows": [{"what": name, **row} for name, row in rows.items()],
        "parts": [{"run": name, **x["parts"]} for name, x in found.items()],
        "second_set_beyond_network_cpu_s": found["second"]["beyond"],
    }


def text_of(results: dict) -> str:
    """Both tables, for people."""
    unit = results["rows"][0]["cpu_s"]
    lines = [f"{'what':26s} {'processor s':>12s} {'imports of jax':>15s} {'wall s':>8s}"]
    for row in results["rows"]:
        times = f"{row['cpu_s']:12.2f} {row['cpu_s'] / unit:15.1f} {row['s']:8.2f}"
        lines.append(f"{row['what']:26s} {times}")
    lines += ["", f"{'processor s of the parts':26s} {'first':>12s} {'second':>15s}"]
    first, second = results["parts"]
    lines += [f"{part:26s} {first[part]:12.2f} {second[part]:15.2f}" for part in PARTS]
    beyond = results["second_set_beyond_network_cpu_s"]
    return "\n".join([*lines, "", f"a second set of photographs, beyond the network: {beyond:.2f}"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--print", action="store_true", help="keep no results")
    args = parser.parse_args()
    results = measure()
    print(text_of(results))
    if not args.print:
        write_results("start", results)


if __name__ == "__main__":
    main()
