"""Plots of an evaluation, as PNG files: curves over views, histograms, single scenes.

Needs matplotlib (the [demo] extra), which is imported only here.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mvdust3r_jax.evaluation.records import Record, decode
from mvdust3r_jax.evaluation.report import COLUMNS, STAGES

_CURVES = ("nd", "cd", "rra15", "rta15", "maa30", "psnr_db")
# Errors are drawn on a logarithmic axis, down to this at most (m, m²): the oracle has none.
_LEAST_ERRORS = {"nd": 1e-2, "cd": 1e-3}
# Errors in pictures of scenes are drawn from 0 to this (meters); points in a top view at most.
_WORST_ERROR_M, _MAX_POINTS = 0.5, 20_000


def available() -> bool:
    """Whether plots can be drawn here."""
    return importlib.util.find_spec("matplotlib") is not None


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _methods(rows: list[Record]) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in rows))


def _curve(ax, rows: list[Record], name: str, heading: str, factor: float) -> None:
    # A method has its color in every panel, also where others have no value.
    for index, method in enumerate(_methods(rows)):
        found = [
            (
                row["views"],
                *(factor * decode(row["numbers"][name][k]) for k in ("mean", "low", "high")),
            )
            for row in rows
            if row["method"] == method and name in row["numbers"]
        ]
        found = np.array(sorted(f for f in found if np.isfinite(f[1]))).reshape(-1, 4)
        if len(found):
            color = f"C{index}"
            ax.plot(found[:, 0], found[:, 1], marker="o", label=method, color=color)
            ax.fill_between(found[:, 0], found[:, 2], found[:, 3], alpha=0.2, color=color)
    if not ax.lines:
        ax.set_axis_off()  # without new views there is no PSNR
        return
    ax.set(title=heading, xlabel="input views")
    ax.grid(alpha=0.3)
    if name in _LEAST_ERRORS:
        _logarithmic(ax, _LEAST_ERRORS[name])


def _logarithmic(ax, least: float) -> None:
    """Ticks at 1, 2 and 5 in each decade, written as they are read."""
    from matplotlib import ticker

    ax.set_yscale("log")
    ax.set_ylim(bottom=max(ax.get_ylim()[0], least))
    ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(ticker.NullFormatter())


def error_curves(summary: list[Record], dataset: str, path: Path) -> None:
    """Means with 95 % intervals against the number of views, one panel per number."""
    plt = _pyplot()
    rows = [row for row in summary if row["dataset"] == dataset]
    columns = {column.name: (column.heading, column.factor) for column in COLUMNS}
    figure, axes = plt.subplots(2, 3, figsize=(13, 7), layout="constrained")
    for ax, name in zip(axes.flat, _CURVES, strict=True):
        _curve(ax, rows, name, *columns[name])
    axes[0, 0].legend()
    figure.suptitle(f"{dataset}: mean and 95 % interval over rooms")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def time_curves(summary: list[Record], dataset: str, path: Path) -> None:
    """Seconds per scene (network, pose and alignment together) against the number of views."""
    plt = _pyplot()
    rows = [row for row in summary if row["dataset"] == dataset]
    figure, ax = plt.subplots(figsize=(6, 4.5), layout="constrained")
    for method in _methods(rows):
        found = [
            (row["views"], sum(row["times"].get(f"{stage}_s", 0.0) for stage in STAGES))
            for row in rows
            if row["method"] == method and row["times"]
        ]
        if found:
            ax.plot(*zip(*sorted(found), strict=True), marker="o", label=method)
    ax.set(yscale="log", xlabel="input views", ylabel="seconds per scene (median)", title=dataset)
    ax.grid(alpha=0.3, which="both")
    ax.legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def error_histogram(records: list[Record], dataset: str, views: int, path: Path) -> None:
    """Distribution of ND over scenes, one outline per method, on a common logarithmic axis."""
    plt = _pyplot()
    rows = [r for r in records if r["dataset"] == dataset and r["views"] == views]
    bins = np.geomspace(1e-2, 10, 31)
    figure, ax = plt.subplots(figsize=(6, 4.5), layout="constrained")
    for method in _methods(rows):
        values = np.array([decode(r["nd"]) for r in rows if r["method"] == method])
        values = np.clip(values[np.isfinite(values)], bins[0], bins[-1])
        ax.hist(values, bins, histtype="step", label=method)
    ax.set(xscale="log", xlabel="ND m (clipped to the axis)", ylabel="scenes")
    ax.set_title(f"{dataset}, {views} views")
    ax.legend()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _top_view(ax, points: np.ndarray, colors: np.ndarray, title: str) -> None:
    step = max(1, len(points) // _MAX_POINTS)
    ax.scatter(points[::step, 0], points[::step, 2], c=colors[::step], s=1, linewidths=0)
    ax.set(title=title, aspect="equal", xlabel="x (m)", ylabel="z (m)")


def scene_picture(
    path: Path,
    title: str,
    images_01: Float[np.ndarray, "S H W 3"],
    points: Float[np.ndarray, "V H W 3"],
    true_points: Float[np.ndarray, "V H W 3"],
    valid: Bool[np.ndarray, "V H W"],
    novel_01: Float[np.ndarray, "T H W 3"] | None,
) -> None:
    """Inputs over their point errors; top views; render-only views, truth over prediction.

    ``points`` and ``true_points`` are aligned with each other, in meters.
    """
    plt = _pyplot()
    num_inputs = len(points)
    targets = 0 if novel_01 is None else len(novel_01)
    columns = max(num_inputs, targets, 2)
    heights = [1, 1, 3, 1, 1] if targets else [1, 1, 3]
    figure = plt.figure(figsize=(1.8 * columns, 1.6 * sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), 2 * columns, height_ratios=heights)

    def show(row: int, column: int, picture: Any, **options) -> None:
        ax = figure.add_subplot(grid[row, 2 * column : 2 * column + 2])
        ax.imshow(picture, **options)
        ax.set_axis_off()

    error = np.linalg.norm(points - true_points, axis=-1)
    error = np.where(valid, error, np.nan)
    for v in range(num_inputs):
        show(0, v, images_01[v])
        show(1, v, error[v], cmap="magma", vmin=0, vmax=_WORST_ERROR_M)
    for side, cloud in enumerate((true_points, points)):
        ax = figure.add_subplot(grid[2, side * columns : (side + 1) * columns])
        _top_view(ax, cloud[valid], images_01[:num_inputs][valid], ("truth", "prediction")[side])
    for t in range(targets):
        show(3, t, images_01[num_inputs + t])
        show(4, t, np.clip(novel_01[t], 0, 1))
    figure.suptitle(f"{title}; errors from 0 (black) to {_WORST_ERROR_M} m")
    figure.savefig(path, dpi=80)
    plt.close(figure)
