"""The experiments of docs/experiments.md, each trained, evaluated and kept by one command.

    python -m benchmarks.experiments card views other_rooms  # what the network that ships can do
    python -m benchmarks.experiments pairs ablation          # these train what they compare
    python -m benchmarks.experiments --tables                # writes them into the page again

Commands are printed before they run; all of them go on where an earlier run stopped. Summaries go
to ``benchmarks/results/experiment_*.json`` and tables into the page, between its markers.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from benchmarks import references
from benchmarks.machine import read_results, results_path, write_results
from mvdust3r_jax.evaluation import report as eval_report
from mvdust3r_jax.evaluation import summary
from mvdust3r_jax.evaluation.methods import METHODS
from mvdust3r_jax.evaluation.records import all_records

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "experiments.md"
CARD = ROOT / "weights" / "README.md"
SHIPS, SMALL = "weights/room_mvd.safetensors", "weights/small.safetensors"
NAMES = ("card", "views", "other_rooms", "card_small", "kitchen", "ablation", "pairs", "paths")
TABLES = (*NAMES, "references")  # the last one by benchmarks.references
PARTS = ("points", "gaussians", "skip_cnn", "refs4")
# Plots of an evaluation that the page shows: name in docs/images -> (experiment, file in plots/).
FIGURES = {
    "room_best.jpg": ("card", "rooms_8_mvd_best0.png"),
    "room_typical.jpg": ("card", "rooms_8_mvd_middle0.png"),
    "room_worst.jpg": ("card", "rooms_8_mvd_worst0.png"),
    "room_views.jpg": ("views", "rooms_errors.png"),
}
_KEPT = tuple(column.name for column in eval_report.COLUMNS) + (
    "similarity_error_m",
    "pose_ok_share",
)


def evaluation(config: str, weights: str, **fields) -> list[str]:
    """An ``eval.py`` command without its folder."""
    changes = [f"--config.{key}={value}" for key, value in fields.items()]
    return ["eval.py", "--config", f"configs/{config}.py", "--weights", weights, *changes]


# What does not start from the first stage, and from which part instead.
_STARTS = {"one_path": "gaussians", "four_paths": "refs4"}


def trained(part: str, runs: Path) -> list[str]:
    """The ``train.py`` command of an ablation."""
    command = ["train.py", "--config", f"configs/ablation.py:{part}", "--workdir", str(runs / part)]
    if part in _STARTS:
        command.append(f"--config.init_from={runs / _STARTS[part]}")
    return command


def of_part(part: str, runs: Path) -> list[str]:
    """Evaluation of an ablation: 8 views, as many paths as it was trained with."""
    method = "mvdp" if part == "refs4" else "mvd"
    return evaluation("eval_small", str(runs / part), methods=method, num_refs=4)


def paths_plan(runs: Path) -> tuple:
    """One path and four, trained equally long; the second, and `small`, with other numbers."""
    few = {"views": "12", "num_targets": "0", "datasets.rooms.count": 50}
    one = evaluation("eval_rooms", str(runs / "one_path"), **few, methods="mean,mvd")
    several = {
        f"R = {refs}": evaluation(
            "eval_rooms", str(runs / "four_paths"), **few, num_refs=refs,
            methods="mvdp" + ",mvdp_best" * (refs == 4),
        )
        for refs in (1, 2, 4, 8)
    }  # fmt: skip
    small = {
        f"small, R = {refs}": evaluation("eval_rooms", SMALL, **few, num_refs=refs, methods="mvdp")
        for refs in (1, 4)
    }
    parts = ("gaussians", "refs4", "one_path", "four_paths")
    return [trained(part, runs) for part in parts], {"": one} | several | small


def kitchen_plan(runs: Path, kitchen: str) -> tuple:
    """The held-out frames of a real room before and after training on its other frames."""
    held_out = {"datasets.held_out.folder": kitchen, "datasets.held_out.count": 100, "num_refs": 4}
    tuned = runs / "kitchen"
    train = [
        "train.py", "--config", "configs/scene.py", "--workdir", str(tuned),
        f"--config.data.mixture=(('{kitchen}',1.0),)", f"--config.init_from={SMALL}",
        "--config.total_steps=400", "--config.peak_lr=3e-4", "--config.average_decay=0.99",
    ]  # fmt: skip
    return [train], {
        "": evaluation("eval_records", SMALL, **held_out, methods="constant,mean,mvdp"),
        "fine-tuned": evaluation("eval_records", str(tuned), **held_out, methods="mvd"),
    }


def plan(
    name: str, weights: str, runs: Path, kitchen: str = "DATA"
) -> tuple[list[list[str]], dict[str, list[str]]]:
    """Trainings, and evaluations by the label of their rows."""
    pairs = str(runs / "pairs")
    few = dict(views="4", num_targets="0")
    plans = {
        "card": ([], {"": evaluation("eval_room", weights)}),
        "views": ([], {"": evaluation("eval_views", weights)}),
        "card_small": ([], {"": evaluation("eval_small", SMALL)}),
        "other_rooms": ([], {"": evaluation("eval_other_rooms", weights)}),
        "paths": paths_plan(runs),
        "kitchen": kitchen_plan(runs, kitchen),
        "pairs": (
            [trained("multi", runs), trained("pairs", runs)],
            {
                "": evaluation(
                    "eval_rooms", str(runs / "multi"), **few, methods="mean,mvd,pairwise",
                    pairwise_weights=pairs,
                )
            },
        ),
        "ablation": (
            [trained(part, runs) for part in PARTS],
            {part: of_part(part, runs) for part in PARTS},
        ),
    }  # fmt: skip
    return plans[name]


def run(command: list[str]) -> None:
    """Print and run; a failure ends everything."""
    print(f"$ python {shlex.join(command)}", flush=True)
    subprocess.run([sys.executable, *command], check=True)


def folder_of(name: str, label: str, runs: Path) -> Path:
    """Where an evaluation is written."""
    return runs / "evaluated" / name / (re.sub(r"\W+", "", label) or "all")


def carry_out(name: str, weights: str, runs: Path, kitchen: str) -> None:
    """Trains and evaluates."""
    trainings, evaluations = plan(name, weights, runs, kitchen)
    for command in trainings:
        run(command)
    for label, command in evaluations.items():
        run([*command, "--workdir", str(folder_of(name, label, runs))])


def step_time(log: Path) -> float:
    """Median seconds of a training's steps."""
    lines = map(json.loads, log.read_text().splitlines())
    return statistics.median(x["step_time_s"] for x in lines if x["kind"] == "train")


def _kept(numbers: dict) -> dict:
    return {name: value for name, value in numbers.items() if name in _KEPT}


def _labeled(label: str, method: str) -> str:
    return " ".join(filter(None, (label, method)))


def paired(records: Mapping[str, Sequence[dict]]) -> dict[tuple, dict]:
    """(data set, views, labeled method) -> difference to the best of all evaluations, by room.

    records: of each evaluation, by its label. The best and what knows the truth have none.
    """
    oracles = [method.name for method in METHODS.values() if method.knows_truth]
    labeled = [
        record | {"method": _labeled(label, record["method"])}
        for label, found in records.items()
        for record in found
    ]
    knowing = {_labeled(label, method) for label in records for method in oracles}
    rows = summary.summarize(labeled, [], knowing)
    keys = ("dataset", "views", "method")
    return {tuple(row[k] for k in keys): row["against"] for row in rows if "against" in row}


def keep(name: str, weights: str, runs: Path) -> None:
    """Puts the summaries of an experiment that was carried out into the repository.

    Rows labeled with the name of a training get the median of its seconds a step as well.
    """
    folders = {label: folder_of(name, label, runs) for label in plan(name, weights, runs)[1]}
    differences = paired({x: all_records(folder, "metrics") for x, folder in folders.items()})
    rows = []
    for label, folder in folders.items():
        for row in json.loads((folder / "summary.json").read_text()):
            row |= {"numbers": _kept(row["numbers"]), "method": _labeled(label, row["method"])}
            row.pop("against", None)
            if other := differences.get((row["dataset"], row["views"], row["method"])):
                row["against"] = other | {"numbers": _kept(other["numbers"])}
            if label and (log := runs / label / "metrics.jsonl").exists():
                row["train_step_s"] = step_time(log)
            rows.append(row)
    write_results(f"experiment_{name}", rows)
    for image, (experiment, plot) in FIGURES.items():
        if experiment == name:
            picture = Image.open(folder_of(name, "", runs) / "plots" / plot)
            picture.convert("RGB").save(ROOT / "docs" / "images" / image, quality=88)


def with_tables(text: str) -> str:
    """A page with the table of every results file between its markers."""

    def table(found: re.Match) -> str:
        name = f"experiment_{found[2]}"
        if not results_path(name).exists():
            return f"{found[1]}\nNot run yet.\n{found[3]}"
        table_of = references.table if found[2] == "references" else eval_report.table
        return f"{found[1]}\n{table_of(read_results(name))}{found[3]}"

    pattern = r"(<!-- table (\w+) -->)\n.*?(<!-- end -->)"
    return re.sub(pattern, table, text, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--weights", default=SHIPS)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--kitchen", help="a built set of a real room (docs/training.md)")
    parser.add_argument("--keep", action="store_true", help="only keep what was evaluated before")
    parser.add_argument("--tables", action="store_true", help="only write the page's tables")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in NAMES]:
        parser.error(f"experiments are {', '.join(NAMES)}; got {unknown[0]!r}")
    if "kitchen" in args.names and not (args.kitchen or args.keep):
        parser.error("the experiment kitchen needs --kitchen FOLDER")
    for name in args.names:
        if not args.keep:
            carry_out(name, args.weights, args.runs, args.kitchen)
        keep(name, args.weights, args.runs)
    for page in (PAGE, CARD):
        page.write_text(with_tables(page.read_text()))


if __name__ == "__main__":
    main()
