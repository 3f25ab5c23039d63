"""All that is worth knowing on the day a GPU is at hand, in one command of at most 8 minutes.

    python -m benchmarks.gpu                      # what benchmarks/results/gpu.json lacks
    python -m benchmarks.gpu --again rasterizer   # parts whose name contains a word, once more
    python -m benchmarks.gpu --table              # only print what was measured so far
    python -m benchmarks.gpu --tiny --results F   # the same code at toy sizes, on any machine

Each part is a process of its own. Its rows go to the results as they come, so that a call that is
stopped, or whose time is over, loses nothing: the next one goes on with what is missing. A part
that fails is told and does not keep the others from running.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "gpu.json"
# A part is not begun when less is left: starting and compiling alone would use it up.
LEAST_S = 20.0
# The allocator's share of a GPU; by default a quarter would be left unused.
ENVIRONMENT = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"}


def read(path: Path) -> dict[str, Any]:
    """``{"machine": ..., "parts": {name: {"rows": [...], "done": bool, ...}}}``."""
    return json.loads(path.read_text()) if path.exists() else {"machine": {}, "parts": {}}


def write(path: Path, results: dict[str, Any]) -> None:
    """Replaces the file at once, so that it can be read at any time."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1) + "\n")
    os.replace(partial, path)


def rows_of(name: str, tiny: bool, limit_s: float, said: list[str]) -> Iterator[dict]:
    """Rows of a part as its process prints them; what it said besides goes to ``said``.

    Raises:
      RuntimeError: the process failed, or was ended after ``limit_s`` seconds.
    """
    command = [sys.executable, "-m", "benchmarks.gpu", "--one", name, *["--tiny"] * tiny]
    ended = []
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=RESULTS.parents[2],
            env=ENVIRONMENT | dict(os.environ),
        )

        def end():
            ended.append(True)
            process.terminate()

        clock = threading.Timer(limit_s, end)
        clock.start()
        try:
            for line in process.stdout:
                if line.startswith("ROW "):
                    yield json.loads(line[4:])
            code = process.wait()
        finally:
            clock.cancel()
            process.kill()
            process.wait()
            process.stdout.close()
        errors.seek(0)
        said.append(errors.read())
    if ended:
        raise RuntimeError(f"ended after {limit_s:.0f} s, the time that was left")
    if code:
        raise RuntimeError(f"exit code {code}: {said[-1].strip()[-1500:]}")


def run_part(name: str, tiny: bool, limit_s: float, path: Path) -> dict[str, Any]:
    """Runs one part and keeps each of its rows; returns what this run of it brought.

    What an earlier run brought stays until this one has brought as many rows, or is done.
    """
    results, started = read(path), time.monotonic()
    earlier = results["parts"].get(name, {"rows": [], "done": False})
    entry = {"rows": [], "done": False}

    def keep() -> None:
        better = not earlier["done"] and len(entry["rows"]) >= len(earlier["rows"])
        results["parts"][name] = entry if entry["done"] or better else earlier
        write(path, results)

    try:
        for row in rows_of(name, tiny, limit_s, []):
            results["machine"] = row.pop("machine")
            entry["rows"].append(row)
            keep()
        entry["done"] = True
    except RuntimeError as error:
        entry["failed"] = str(error)
    entry["wall_s"] = round(time.monotonic() - started, 1)
    keep()
    return entry


def one(name: str, tiny: bool) -> None:
    """A part in this process: its rows on standard output."""
    import jax

    from benchmarks import gpu_parts
    from benchmarks.machine import machine

    # Compile times are of programs that nobody has compiled before.
    jax.config.update("jax_enable_compilation_cache", tiny)
    part = gpu_parts.parts(gpu_parts.TINY if tiny else gpu_parts.FULL)[name]
    for row in part():
        sys.stdout.write("ROW " + json.dumps(row | {"machine": machine()}) + "\n")
        sys.stdout.flush()


def names(tiny: bool) -> list[str]:
    """The parts in their order. The GPU stays free: nothing here asks for devices."""
    from benchmarks import gpu_parts

    return list(gpu_parts.parts(gpu_parts.TINY if tiny else gpu_parts.FULL))


# --- The table ------------------------------------------------------------------------------------


def table(results: dict[str, Any]) -> str:
    """Everything that was measured, a line a row."""
    device = results["machine"].get("device", "no device yet")
    lines = [f"{device}, jax {results['machine'].get('jax', '?')}"]
    for name, entry in results["parts"].items():
        state = "" if entry["done"] else f" NOT DONE: {entry.get('failed', 'stopped')}"
        lines.append(f"\n{name} ({entry.get('wall_s', 0):.0f} s){state}")
        lines += [f"  {_line(row)}" for row in entry["rows"]]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    row = dict(row)
    errors = row.pop("errors", {})
    cells = [f"{name} {_cell(name, value)}" for name, value in row.items() if value is not None]
    cells += [f"error of {name} {_cell('', value)}" for name, value in errors.items()]
    return ", ".join(cells)


def _cell(name: str, value: Any) -> str:
    if name.endswith("bytes"):
        return f"{value / 2**30:.2f} GiB"
    if name in ("mfu", "of_peak", "of_matmul", "input_wait_share"):
        return f"{100 * value:.1f} %"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def main(argv: list[str] | None = None) -> int:
    """Runs what is missing; the exit code says whether everything is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="(default: %(default)s)")
    parser.add_argument("--again", nargs="*", default=[], help="words in names of parts")
    parser.add_argument("--only", nargs="*", default=[], help="words in names of parts")
    parser.add_argument("--results", type=Path, default=RESULTS, help="(default: %(default)s)")
    parser.add_argument("--table", action="store_true", help="print; run nothing")
    parser.add_argument("--tiny", action="store_true", help="toy sizes: is the code alive?")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        one(args.one, args.tiny)
        return 0
    if args.tiny and args.results == RESULTS:
        parser.error("--tiny measures nothing: give it a file of its own with --results")
    end = time.monotonic() + 60 * args.minutes
    for name in () if args.table else names(args.tiny):
        done = read(args.results)["parts"].get(name, {}).get("done", False)
        left = end - time.monotonic()
        if (done and not any(word in name for word in args.again)) or left < LEAST_S:
            continue
        if args.only and not any(word in name for word in args.only):
            continue
        print(f"{name} ...", flush=True)
        entry = run_part(name, args.tiny, left, args.results)
        print(f"  {len(entry['rows'])} rows, {entry['wall_s']} s {entry.get('failed', '')}")
    results = read(args.results)
    print(table(results))
    missing = [n for n in names(args.tiny) if not results["parts"].get(n, {}).get("done")]
    if missing:
        print(f"\nmissing, the same command goes on with them: {', '.join(missing)}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
