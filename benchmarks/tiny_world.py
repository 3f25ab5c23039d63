"""The paper's findings with power: several seeds an arm, paired intervals over rooms and seeds.

    python -m benchmarks.tiny_world                  # everything, many hours
    python -m benchmarks.tiny_world paths --seeds 1
    python -m benchmarks.tiny_world --tables         # writes the page's tables again

Arms are those of configs/tiny_world.py. Every row of a question is judged twice on the same unseen
rooms: after equally many steps, and after as many as fit the time of the question's cheapest arm
(``python -m benchmarks.tiny_world_costs``), where that makes a difference;
where a question ``goes_on``, once more after twice the steps.
All arms go on from one network of pairs (``start``), which is trained first and not counted, or
(``later``) from the arm of pairs after twice the steps.
The learning rate is constant and weights are averaged, so a run that is stopped early is what a
shorter one would have been. What was judged is kept in ``benchmarks/results/tiny_world``, one file
an arm, seed and number of steps; a second call goes on behind it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import tiny_world_questions as questions
from benchmarks.experiments import PAGE, run
from benchmarks.tiny_world_costs import read_costs
from benchmarks.tiny_world_questions import QUESTIONS, Question, plans, read_kept
from benchmarks.tiny_world_tables import with_tables
from configs import tiny_world
from mvdust3r_jax.training.checkpoint import NEWEST

ROOMS = 200
NUMBERS = ("nd", "cd", "rra15", "rta15", "psnr_db", "lpips")


class Runs(NamedTuple):
    """Where arms are trained, and for how many steps each."""

    folder: Path
    steps: int

    def of(self, arm: str, seed: int) -> Path:
        return self.folder / ("start" if arm == "start" else f"{arm}_{seed}")


def steps_of(workdir: Path) -> list[int]:
    """Of which steps checkpoints are there."""
    newest = workdir / NEWEST
    names = [path.name for path in newest.iterdir()] if newest.exists() else []
    return [int(name) for name in names if name.isdigit()]


def begin(arm: str, seed: int, runs: Runs) -> str:
    """What an arm begins as: nothing, the common start (trained here), or another arm.

    Raises:
        SystemExit: that arm is not there yet.
    """
    init_from = tiny_world.get_config(f"{arm},{seed}").init_from
    if not init_from:
        return ""
    if init_from == tiny_world.START:
        return str(train("start", 0, tiny_world.START_STEPS, runs))
    other = runs.folder / Path(init_from).name
    if 2 * runs.steps not in steps_of(other):
        sys.exit(f"{arm} begins as {other} at step {2 * runs.steps}: answer its question first")
    return str(other)


def train(arm: str, seed: int, steps: int, runs: Runs) -> Path:
    """An arm to this step, from where it is; returns its folder.

    Raises:
        SystemExit: the arm has gone on, and what it was at this step is no longer there.
    """
    workdir = runs.of(arm, seed)
    there = steps_of(workdir)
    if there and max(there) > steps:
        sys.exit(f"{workdir} is at step {max(there)}, and {steps} is to be judged: begin it anew")
    # Several calls, of a question each, may run at a time: what is trained is not touched.
    if steps not in there:
        config = f"configs/tiny_world.py:{arm},{seed}"
        fields = [f"--config.stop_step={steps}", f"--config.init_from={begin(arm, seed, runs)}"]
        run(["train.py", "--config", config, "--workdir", str(workdir), *fields, "--allow_changes"])
    return workdir


def carry_out(question: Question, arm: str, seed: int, steps: int, runs: Runs) -> None:
    """Trains an arm to this step, unless it is there, and judges what the question asks of it."""
    methods = [row.method for row in question.rows if row.arm == arm]
    kept = read_kept(arm, seed, steps)
    methods = [m for m in methods if f"{m} {question.views}" not in kept]
    if not methods:
        return
    workdir = train(arm, seed, steps, runs)
    judged = runs.folder / "judged" / f"{arm}_{seed}_{steps}_{question.views}_{'_'.join(methods)}"
    run([
        "eval.py", "--config", "configs/eval_tiny_world.py", "--weights", str(workdir),
        "--workdir", str(judged), f"--config.methods={','.join(methods)}",
        f"--config.views={question.views}", f"--config.num_targets={question.targets}",
        f"--config.datasets.rooms.count={ROOMS}",
    ])  # fmt: skip
    records = [json.loads(line) for line in (judged / "metrics.jsonl").read_text().splitlines()]
    for method in methods:
        rows = sorted((r for r in records if r["method"] == method), key=lambda r: r["id"])
        kept[f"{method} {question.views}"] = {
            name: [_short(row[name]) for row in rows] for name in NUMBERS if name in rows[0]
        }
    path = questions.kept_file(arm, seed, steps)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept) + "\n")


def _short(value) -> float | None:
    """Five significant digits; None for what is no finite number."""
    number = isinstance(value, int | float) and np.isfinite(value)
    return float(f"{value:.5g}") if number else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument("--seeds", type=int, default=3, help="at most; tables show what is there")
    parser.add_argument("--steps", type=int, default=tiny_world.STEPS)
    parser.add_argument("--runs", type=Path, default=Path("runs/tiny_world"))
    parser.add_argument("--tables", action="store_true", help="only write the page's tables")
    args = parser.parse_args()
    if unknown := [name for name in args.questions if name not in QUESTIONS]:
        parser.error(f"questions are {', '.join(QUESTIONS)}; got {unknown[0]!r}")
    if not args.tables:
        for name in args.questions or QUESTIONS:
            answer(QUESTIONS[name], args.seeds, Runs(args.runs, args.steps))
    PAGE.write_text(with_tables(PAGE.read_text(), args.seeds, args.steps))


def answer(question: Question, seeds: int, runs: Runs) -> None:
    """Seed by seed, so that a first answer is there early; shorter runs first, then on."""
    asked = plans(question, read_costs(), runs.steps).values()
    for seed in range(1, seeds + 1):
        for arm in question.arms:
            for stop in sorted({plan[arm] for plan in asked}):
                carry_out(question, arm, seed, stop, runs)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"stopped: {error}; a second call goes on")
