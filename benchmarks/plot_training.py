"""Draws the training of `small` through its stages, and keeps the log beside the weights.

    python -m benchmarks.plot_training runs/small_mvd runs/small_render runs/small

Reads each run's ``metrics.jsonl``. Writes ``weights/small_log.jsonl`` (all evaluations, every tenth
training record, with the stage's name) and ``docs/images/small_training.png``; without folders the
plot is made from that log again.
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
    """Records of all runs with ``stage``, thinned; a resumed run's repeated steps count once."""
    records = []
    for run in runs:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        latest = {(r["kind"], r["step"]): {"stage": run.name, **r} for r in lines}
        train = [r for (kind, _), r in latest.items() if kind == "train"]
        rest = [r for (kind, _), r in latest.items() if kind != "train"]
        records += sorted(train[::_THINNED] + rest, key=lambda r: r["step"])
    return records


def draw(records: list[dict]) -> None:
    """Held-out ND, and the terms of the loss in training, over the steps of all stages."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    begin = 0
    for stage in dict.fromkeys(r["stage"] for r in records):
        own = [r for r in records if r["stage"] == stage]
        held_out = [r for r in own if "nd" in r]
        left.plot([begin + r["step"] for r in held_out], [r["nd"] for r in held_out], label=stage)
        train = [r for r in own if r["kind"] == "train"]
        for term in ("regression", "rgb"):
            if any(term in r for r in train):
                values = smoothed([r.get(term, np.nan) for r in train])
                right.plot([begin + r["step"] for r in train], values, label=f"{stage}: {term}")
        begin += own[-1]["step"]
    left.set(title="rooms that training never sees: ND, m", xlabel="steps", yscale="log")
    right.set(title="terms of the loss in training (means of 9)", xlabel="steps", yscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3, which="both")
        axes.legend(frameon=False)
    figure.savefig(PLOT, dpi=100)


def smoothed(values: list[float], width: int = 9) -> np.ndarray:
    """Running mean; at the ends of what is there."""
    kernel = np.ones(width)
    weights = np.convolve(np.ones(len(values)), kernel, "same")
    return np.convolve(values, kernel, "same")[: len(values)] / weights[: len(values)]


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
