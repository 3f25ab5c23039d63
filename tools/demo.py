"""`make demo`: from posed frames of one room to a reconstruction of frames the network never saw.

    python -m tools.demo --out demo_out

Runs the same commands as a user would, and prints each: build a data set from `examples/room/seen`,
train a small network on it for about three minutes, evaluate it on the held-out frames against the
truth, reconstruct those frames from the photographs alone, and say where the results are. It shows
that every part works; a network of three minutes knows one room only.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

EXAMPLE = Path("examples/room")
# Neighbouring pixels of the 128x128 example lie 480/128 times farther apart than ScanNet's.
CHOICE = (
    "--layout plain --test-scenes held_out --inputs 4 --targets 1 --lo 0.3 --hi 0.95 "
    "--step 1 --radius 0.056 --trajectories 200"
)
EXPORTS = "ply,glb,3dgs,cameras,preview,html"


def run(command: str) -> float:
    """Runs one command of the user's, output and all; returns its seconds or ends the demo."""
    print(f"\n$ python {command}", flush=True)
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *shlex.split(command)], check=False)
    if done.returncode:
        sys.exit(f"the demo stopped: `python {command}` ended with {done.returncode}")
    return time.perf_counter() - started


def evaluation_rows(folder: Path) -> list[str]:
    """One line per method: mean ND, rotation and translation error of the held-out frames."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = []
    for method in dict.fromkeys(record["method"] for record in records):
        mine = [r for r in records if r["method"] == method]
        columns = []
        for name in ("nd", "rre_deg", "rte_deg"):
            values = [r[name] for r in mine if isinstance(r.get(name), float)]
            columns.append(f"{name} {sum(values) / len(values):8.3f}" if values else f"{name} -")
        rows.append(f"  {method:10s} {'   '.join(columns)}   ({len(mine)} trajectories)")
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("demo_out"))
    parser.add_argument("--steps", type=int, default=0, help="training steps (default: config's)")
    args = parser.parse_args()
    out = args.out
    out.mkdir(parents=True, exist_ok=True)
    steps = f" --config.total_steps={args.steps}" if args.steps else ""
    data = out / "data" / "rgbd"

    if not data.exists():
        run(
            f"-m data.build rgbd --root {EXAMPLE} --choice {out / 'choice.npz'} "
            f"--out {out / 'data'} {CHOICE}"
        )
    mixture = f'--config.data.mixture=((\\"{data}\\",1.0),)'
    trained = run(f"train.py --config configs/demo.py --workdir {out / 'run'} {mixture}{steps}")
    run(
        f"eval.py --config configs/eval_records.py --weights {out / 'run'} "
        f"--workdir {out / 'eval'} --config.datasets.held_out.folder={data}"
    )
    reconstructed = run(
        f"-m mvdust3r_jax.cli reconstruct {EXAMPLE / 'held_out' / 'rgb'} --weights {out / 'run'} "
        f"--out {out / 'scene'} --export {EXPORTS}"
    )

    print("\nHeld-out frames against the truth (ND in metres after alignment, angles in degrees):")
    print("\n".join(evaluation_rows(out / "eval")))
    print(f"\nTraining {trained:.0f} s, reconstruction of 8 photographs {reconstructed:.0f} s.")
    print(f"Look at {out / 'scene' / 'preview.png'}, open {out / 'scene'}/*.html in a browser,")
    print(f"or run: mvdust3r view {out / 'scene'}")


if __name__ == "__main__":
    main()
