"""Errors of the rasterizer against gsplat 1.4's formulas in float64, scene by scene.

    python -m benchmarks.splat_parity

Prints a table and writes benchmarks/results/splat_parity.json: largest error of image and alpha,
largest error of any gradient relative to its array's largest entry, and how many radii and counts
of contributors differ.
"""

from pathlib import Path

import numpy as np

from benchmarks.machine import write_results
from mvdust3r_jax.evaluation import tables
from tests.splat.golden_test import LARGE_RADIUS, SCENES, run_scene


def errors(path: Path) -> dict[str, float | int | str]:
    """One row of the table."""
    scene, (image, alpha, info), gradients = run_scene(path)
    relative = {
        name: np.abs(gradient - scene[f"grad_{name}"]).max()
        / max(np.abs(scene[f"grad_{name}"]).max(), 1e-12)
        for name, gradient in gradients.items()
    }
    small = scene["radii"] < LARGE_RADIUS
    return {
        "scene": path.stem,
        "image": float(np.abs(image - scene["image"]).max()),
        "alpha": float(np.abs(alpha - scene["alpha"]).max()),
        "gradients": float(max(relative.values())),
        "radii": int((np.asarray(info.radii)[small] != scene["radii"][small]).sum()),
        "counts": int((np.asarray(info.contributors) != scene["n_contrib"]).sum()),
    }


def main() -> None:
    """Command line."""
    rows = []
    names = ("scene", "image", "alpha", "gradients", "radii that differ", "counts that differ")
    print(tables.head(names))
    for path in SCENES:
        row = errors(path)
        rows.append(row)
        cells = [path.stem, *(f"{row[name]:.0e}" for name in ("image", "alpha", "gradients"))]
        print(tables.row([*cells, row["radii"], row["counts"]]), flush=True)
    write_results("splat_parity", rows)


if __name__ == "__main__":
    main()
