"""What an evaluation draws: curves of its summary, and its best, middle and worst scenes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mvdust3r_jax.evaluation import judge, plots, records, scores
from mvdust3r_jax.evaluation.plan import Round
from mvdust3r_jax.evaluation.records import Record
from mvdust3r_jax.evaluation.runner import Evaluation
from mvdust3r_jax.types import images_01_from

# The method whose scenes are drawn: the first of these that was run.
_SHOWN = ("mvdp", "mvdp_auto", "mvd", "mvd_auto", "pairwise", "constant")


def draw_curves(workdir: Path) -> None:
    """Plots of the summary: errors and times against views, histograms."""
    metrics = records.all_records(workdir, "metrics")
    rows = json.loads((workdir / "summary.json").read_text(encoding="utf-8"))
    summary = [row for row in rows if row["scenes"]]
    folder = workdir / "plots"
    folder.mkdir(exist_ok=True)
    for dataset in dict.fromkeys(row["dataset"] for row in summary):
        plots.error_curves(summary, dataset, folder / f"{dataset}_errors.png")
        plots.time_curves(summary, dataset, folder / f"{dataset}_times.png")
        for views in {row["views"] for row in summary if row["dataset"] == dataset}:
            path = folder / f"{dataset}_{views}_histogram.png"
            plots.error_histogram(metrics, dataset, views, path)


def draw_extremes(evaluation: Evaluation) -> None:
    """Pictures of the scenes of smallest, middle and largest ND, at the most views of each set."""
    plan = evaluation.plan
    shown = [m for m in _SHOWN if m in plan.methods][:1] if plan.options.pictures else []
    metrics = records.all_records(evaluation.workdir, "metrics")
    largest: dict[str, Round] = {}
    for part in plan.rounds:
        known = largest.get(part.data.name, part)
        largest[part.data.name] = max(known, part, key=lambda r: r.num_inputs)
    for part in largest.values():
        for method in shown:
            key = {"dataset": part.data.name, "views": part.num_inputs, "method": method}
            rows = [r for r in metrics if all(r[k] == v for k, v in key.items())]
            for name, (nd, scene) in extremes(rows, plan.options.pictures).items():
                _draw(evaluation, part, key, name, nd, scene)


def extremes(rows: Sequence[Record], count: int) -> dict[str, tuple[float, str]]:
    """Name of a picture -> (ND, scene): the ``count`` best and worst, and the middle one."""
    ordered = sorted((r["nd"], r["id"]) for r in rows if r["nd"] is not None)
    if not ordered:
        return {}
    found = {f"best{i}": row for i, row in enumerate(ordered[:count])}
    found |= {f"worst{i}": row for i, row in enumerate(ordered[::-1][:count])}
    return found | {"middle0": ordered[len(ordered) // 2]}


def _draw(
    evaluation: Evaluation, part: Round, key: Record, name: str, nd: float, scene: str
) -> None:
    """One scene computed again, and its picture."""
    job, estimate = evaluation.answer_one(part.data, key, part.num_targets, scene)
    bare = estimate.replace(gaussians=None)
    clouds = job.devices.run(scores.aligned_clouds, (bare, job.batch)).result
    novel, _ = judge.novel_images(job.devices, estimate, job.batch, job.network)
    shape = estimate.points.shape[1:]
    points, truth, valid = (np.asarray(x[0]) for x in clouds)
    folder = evaluation.workdir / "plots"
    folder.mkdir(exist_ok=True)
    plots.scene_picture(
        folder / f"{key['dataset']}_{key['views']}_{key['method']}_{name}.png",
        f"{scene}, {key['method']}, {key['views']} views: ND {nd:.3f} m",
        images_01_from(np.asarray(job.batch.images[0])),
        points.reshape(shape),
        truth.reshape(shape),
        valid.reshape(shape[:-1]),
        None if novel is None else images_01_from(np.asarray(novel[0])),
    )
