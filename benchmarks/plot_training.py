"""Draws the training of `small` through its stages, and keeps the log beside the weights.

    python -m benchmarks.plot_training runs/small_mvd runs/small_render runs/small

Reads each run's ``metrics.jsonl``. Writes ``weights/small_log.jsonl`` (all evaluations, means of
ten training records, with the stage's name) and ``docs/images/small_training.png``; without folders
the plot is made from that log again. The dotted line is a power law through the second half of the
first stage's evaluations: what more steps of it would give, if it went on like that.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

LOG = Path("weights/small_log.jsonl")
PLOT = Path("docs/images/small_training.png")
_THINNED = 10


def gather(runs: list[Path]) -> list[dict]:
    """Records of all runs with ``stage``; a resumed run's repeated steps count once."""
    records = []
    for run in runs:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        latest = {(r["kind"], r["step"]): {"stage": run.name, **r} for r in lines}
        train = [r for (kind, _), r in latest.items() if kind == "train"]
        rest = [r for (kind, _), r in latest.items() if kind != "train"]
        means = [mean_record(train[i : i + _THINNED]) for i in range(0, len(train), _THINNED)]
        records += sorted(means + rest, key=lambda r: r["step"])
    return records


def mean_record(records: list[dict]) -> dict:
    """Means of the numbers; the step is the last one's."""
    numbers = [k for k, v in records[0].items() if isinstance(v, float)]
    return records[-1] | {k: float(np.mean([r[k] for r in records])) for k in numbers}


def draw(records: list[dict]) -> None:
    """Held-out ND, and the terms of the loss in training, over the steps of all stages."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    begin = 0
    for stage in dict.fromkeys(r["stage"] for r in records):
        own = [r for r in records if r["stage"] == stage]
        held_out = [r for r in own if "nd" in r]
        steps, nd = ([r[k] for r in held_out] for k in ("step", "nd"))
        left.plot([begin + s for s in steps], nd, ".-", label=stage)
        if not begin:
            draw_power_law(left, np.array(steps), np.array(nd))
        train = [r for r in own if r["kind"] == "train"]
        for term in ("regression", "rgb"):
            if any(term in r for r in train):
                values = [r.get(term, np.nan) for r in train]
                right.plot([begin + r["step"] for r in train], values, label=f"{stage}: {term}")
        begin += own[-1]["step"]
    left.set(title="held-out rooms: ND, m (4 views, later 8)", xlabel="steps", yscale="log")
    right.set(
        title="terms of the loss in training (regression: sum over views)",
        xlabel="steps",
        yscale="log",
    )
    for axes in (left, right):
        axes.grid(alpha=0.3, which="both")
        axes.legend(frameon=False)
    figure.savefig(PLOT, dpi=100)


def draw_power_law(axes, steps: np.ndarray, nd: np.ndarray) -> None:
    """Fitted to the second half, drawn to five times the steps."""
    half = len(steps) // 2
    exponent, offset = np.polyfit(np.log(steps[half:]), np.log(nd[half:]), 1)
    ahead = np.geomspace(steps[half], 5 * steps[-1])
    law = np.exp(offset) * ahead**exponent
    axes.plot(ahead, law, "k:", lw=1, label=f"power law, exponent {exponent:.2f}")
    print(f"ND ~ steps^{exponent:.3f}; at {ahead[-1]:.0f} steps {law[-1]:.3f} m")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="workdirs, in the order of the stages")
    args = parser.parse_args()
    if args.runs:
        LOG.parent.mkdir(exist_ok=True)
        LOG.write_text("".join(json.dumps(r) + "\n" for r in gather(args.runs)))
    draw([json.loads(line) for line in LOG.read_text().splitlines()])


if __name__ == "__main__":
    main()
