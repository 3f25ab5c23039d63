"""The paper's findings with power: several seeds an arm, paired intervals over rooms and seeds.

    python -m benchmarks.tiny_world                  # everything, many hours
    python -m benchmarks.tiny_world paths --seeds 1
    python -m benchmarks.tiny_world --tables         # writes the page's tables again

Arms are those of configs/tiny_world.py. Every row of a question is judged twice on the same unseen
rooms: after equally many steps, and after as many as fit the time of the question's cheapest arm;
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
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from benchmarks import train as train_benchmark
from benchmarks.experiments import PAGE, run
from benchmarks.machine import RESULTS, read_results, results_path, write_results
from configs import tiny_world
from mvdust3r_jax.evaluation import tables
from mvdust3r_jax.training.checkpoint import NEWEST

KEPT = RESULTS / "tiny_world"
COSTS = "tiny_world_costs"
ROOMS = 200
NUMBERS = ("nd", "cd", "rra15", "rta15", "psnr_db", "lpips")
HEADINGS = {"nd": "ND m", "cd": "CD m²", "rra15": "RRA@15°", "rta15": "RTA@15°"}
HEADINGS |= {"psnr_db": "PSNR dB", "lpips": "LPIPS"}
# Steps are judged at multiples of this, at which a checkpoint may be.
ROUND = 500


class Row(NamedTuple):
    """What is compared: an arm and the evaluation method that reads it."""

    arm: str
    method: str


class Question(NamedTuple):
    """A finding of the paper: rows on the same rooms; all are compared with the first one."""

    text: str
    views: int
    targets: int
    numbers: tuple[str, ...]
    rows: tuple[Row, ...]
    # Whether all arms go on to twice the steps, which shows whether differences grow or shrink.
    goes_on: bool = False

    @property
    def arms(self) -> list[str]:
        """Each once, in order."""
        return list(dict.fromkeys(row.arm for row in self.rows))


QUESTIONS = {
    "pairs": Question(
        "Four views: pairs and global alignment against one pass",
        4, 0, ("nd", "cd", "rra15", "rta15"),
        (Row("pairs", "pairwise"), Row("four_views", "mvd"), Row("four_views", "mvd_middle")),
        goes_on=True,
    ),
    "later": Question(
        "Four views, begun from pairs that were trained three times as long",
        4, 0, ("nd", "cd", "rra15", "rta15"),
        (
            Row("pairs_later", "pairwise"), Row("four_views_later", "mvd"),
            Row("four_views_later", "mvd_middle"),
        ),
    ),
    "paths": Question(
        "Twelve views: one path, four that never meet, four with cross-reference blocks",
        12, 0, ("nd", "cd", "rra15", "rta15"),
        (
            Row("one_path", "mvd"), Row("one_path", "mvd_middle"), Row("one_path", "mvd_auto"),
            Row("four_paths_apart", "mvd"), Row("four_paths", "mvdp"),
            Row("four_paths", "mvdp_auto"),
        ),
    ),
    "gaussians": Question(
        "Eight views: new views from points as splats of one size against trained Gaussians",
        8, 2, ("nd", "psnr_db", "lpips"),
        (Row("gaussians", "points"), Row("gaussians", "mvd")),
    ),
}  # fmt: skip


# ---------------------------------------------------------------- trained and judged


def costs(arms: Sequence[str]) -> dict[str, float]:
    """Processor seconds of a step of 96 images in views of 8 (or what the arm has), kept."""
    known = read_results(COSTS) if results_path(COSTS).exists() else {}
    for arm in arms:
        if arm not in known:
            config = tiny_world.get_config(arm)
            views = min(max(config.data.num_inputs), 8)
            row = train_benchmark.measure(config, views, config.data.images_per_step // views, 3)
            known[arm] = row["step"]["cpu_s"]
            write_results(COSTS, known)
    return known


def steps_in_equal_time(question: Question, costs: dict[str, float], steps: int) -> dict[str, int]:
    """Steps of each arm in the time that the cheapest one needs for ``steps``."""
    cheapest = min(costs[arm] for arm in question.arms)
    exact = {arm: steps * cheapest / costs[arm] for arm in question.arms}
    return {arm: max(ROUND, round(n / ROUND) * ROUND) for arm, n in exact.items()}


def plans(question: Question, costs: dict[str, float], steps: int) -> dict[str, dict[str, int]]:
    """What each table of a question is called, and the steps of every arm in it."""
    found = {
        "Equally many steps": dict.fromkeys(question.arms, steps),
        "Equal time": steps_in_equal_time(question, costs, steps),
    }
    if question.goes_on:
        found["Twice the steps"] = dict.fromkeys(question.arms, 2 * steps)
    return found


def kept_file(arm: str, seed: int, steps: int) -> Path:
    """What an arm scored, by ``method views``."""
    return KEPT / f"{arm}_{seed}_{steps}.json"


def read_kept(arm: str, seed: int, steps: int) -> dict[str, dict[str, list]]:
    """``method views`` -> number -> one value a room, None where it has none; {} if not judged."""
    path = kept_file(arm, seed, steps)
    return json.loads(path.read_text()) if path.exists() else {}


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
    KEPT.mkdir(parents=True, exist_ok=True)
    kept_file(arm, seed, steps).write_text(json.dumps(kept) + "\n")


def _short(value) -> float | None:
    """Five significant digits; None for what is no finite number."""
    number = isinstance(value, int | float) and np.isfinite(value)
    return float(f"{value:.5g}") if number else None


# ---------------------------------------------------------------- compared


def scores(
    row: Row, views: int, number: str, seeds: int, steps: int
) -> Float[np.ndarray, "seeds rooms"] | None:
    """One number of a row by seed and room; None while a seed is not judged."""
    found = [
        read_kept(row.arm, seed, steps).get(f"{row.method} {views}", {}).get(number)
        for seed in range(1, seeds + 1)
    ]
    if any(values is None for values in found):
        return None
    return np.array(found, np.float64)


def interval_over_seeds_and_rooms(
    values: Float[np.ndarray, "seeds rooms"], resamples: int = 2000
) -> tuple[float, float, float]:
    """Mean and its 95 % interval when seeds and rooms are both drawn anew; NaN values left out."""
    rng = np.random.default_rng(0)
    seeds, rooms = values.shape
    means = np.empty(resamples)
    for i in range(resamples):
        drawn = values[np.ix_(rng.integers(seeds, size=seeds), rng.integers(rooms, size=rooms))]
        means[i] = np.nanmean(drawn)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(np.nanmean(values)), float(low), float(high)


def judged_seeds(question: Question, seeds: int, steps: dict[str, int]) -> int:
    """Of how many seeds all rows are judged; 1 if of none, so that what there is can be shown."""
    for count in range(seeds, 1, -1):
        found = [
            scores(row, question.views, question.numbers[0], count, steps[row.arm])
            for row in question.rows
        ]
        if all(values is not None for values in found):
            return count
    return 1


def table(question: Question, seeds: int, steps: dict[str, int]) -> str:
    """A row of each arm: means, and the difference to the first row with its interval.

    Of several seeds, also the difference in each.
    """
    first = question.rows[0]
    lines = [tables.head(("arm", "method", "steps", *(HEADINGS[n] for n in question.numbers)))]
    for row in question.rows:
        cells = [row.arm, row.method, str(steps[row.arm])]
        for number in question.numbers:
            own = scores(row, question.views, number, seeds, steps[row.arm])
            base = scores(first, question.views, number, seeds, steps[first.arm])
            cells.append(_cell(own, base if row != first else None))
        lines.append(tables.row(cells))
    return "\n".join(lines)


def _cell(own: np.ndarray | None, base: np.ndarray | None) -> str:
    if own is None:
        return "not run yet"
    text = f"{np.nanmean(own):.3g}"
    if base is None:
        return text
    mean, low, high = interval_over_seeds_and_rooms(own - base)
    each = ", ".join(f"{x:+.2g}" for x in np.nanmean(own - base, axis=1))
    return f"{text} ({mean:+.2g} [{low:+.2g}, {high:+.2g}]{f'; {each}' if len(own) > 1 else ''})"


def with_tables(page: str, seeds: int, steps: int) -> str:
    """The page with both tables of each question between its markers, where costs are known."""
    if not results_path(COSTS).exists():
        return page
    known = read_results(COSTS)
    for name, question in QUESTIONS.items():
        start, end = f"<!-- tiny_world {name} -->\n", "<!-- end tiny_world -->"
        if start not in page or not set(question.arms) <= set(known):
            continue
        shown = plans(question, known, steps).items()
        texts = []
        for title, plan in shown:
            count = judged_seeds(question, seeds, plan)
            of_seeds = "seed 1" if count == 1 else f"seeds 1 to {count}"
            texts.append(f"{title}, {of_seeds}:\n\n{table(question, count, plan)}\n")
        content = "\n".join(texts)
        before, _, rest = page.partition(start)
        page = before + start + content + end + rest.partition(end)[2]
    return page


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
    asked = plans(question, costs(question.arms), runs.steps).values()
    for seed in range(1, seeds + 1):
        for arm in question.arms:
            for stop in sorted({plan[arm] for plan in asked}):
                carry_out(question, arm, seed, stop, runs)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"stopped: {error}; a second call goes on")
