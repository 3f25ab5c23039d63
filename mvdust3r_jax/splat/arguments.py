"""What a call of the rasterizer may be given: shapes and numbers that fit together."""

from __future__ import annotations

import math

from mvdust3r_jax.splat.project import View


def check_shapes(arrays: dict, sh_degree: int | None) -> None:
    """Raise ValueError naming the array, the expected shape and the one received."""
    for name in ("means", "viewmats"):
        if arrays[name].ndim == 0:
            raise ValueError(f"{name}: expected an array, got a scalar")
    count, cameras = arrays["means"].shape[0], arrays["viewmats"].shape[0]
    expected = {
        "means": (count, 3),
        "quats": (count, 4),
        "scales": (count, 3),
        "opacities": (count,),
        "viewmats": (cameras, 4, 4),
        "Ks": (cameras, 3, 3),
    }
    if arrays.get("backgrounds") is not None:
        expected["backgrounds"] = (cameras, 3)
    if sh_degree is None:
        expected["colors"] = (count, 3)
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise ValueError(
                f"{name}: expected shape {shape} "
                f"({count} Gaussians, {cameras} cameras), got {arrays[name].shape}"
            )
    if sh_degree is None:
        return
    if sh_degree not in (0, 1, 2, 3):
        raise ValueError(f"sh_degree: expected 0, 1, 2, 3 or None, got {sh_degree}")
    needed, shape = (sh_degree + 1) ** 2, arrays["colors"].shape
    if len(shape) != 3 or shape[0] != count or shape[1] < needed or shape[2] != 3:
        raise ValueError(
            f"colors: expected shape ({count}, K >= {needed}, 3) "
            f"for sh_degree {sh_degree}, got {shape}"
        )


def check_view(view: View) -> None:
    """Raise ValueError for a size, planes or a blur that no picture has."""
    if view.width < 1 or view.height < 1:
        raise ValueError(
            f"width, height: expected a positive size, got {view.width}, {view.height}"
        )
    if not 0 <= view.near_plane < view.far_plane:
        raise ValueError(
            f"near_plane, far_plane: expected 0 <= near < far, "
            f"got {view.near_plane}, {view.far_plane}"
        )
    if not (view.eps2d >= 0 and math.isfinite(view.eps2d)):
        raise ValueError(f"eps2d: expected a finite number >= 0, got {view.eps2d}")
