"""The two ways to count pixels, and what resizing an image does to its camera.

Ours counts from the first pixel's center: that is (0, 0). COLMAP, nerfstudio and gsplat count from
its outer corner, so that its center is (0.5, 0.5).
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int

# Principal points of cameras lie about the middle of their image. One outside of these shares of
# its sides belongs to an image of half, of twice or of another size.
_MIDDLE = (0.25, 0.75)

# A coordinate, or an array of them of any library.
Pixels = TypeVar("Pixels")


def corner_from_center(pixels: Pixels) -> Pixels:
    """Coordinates counted from the corner, of ours."""
    return pixels + 0.5


def center_from_corner(pixels: Pixels) -> Pixels:
    """Our coordinates, of those counted from the corner."""
    return pixels - 0.5


def image_middle(
    size: tuple[int, int] | Int[np.ndarray, "*any 2"],
) -> Float[np.ndarray, "*any 2"]:
    """(x, y) in the middle of an image of ``size`` (height, width): (w - 1) / 2 of w pixels."""
    return center_from_corner(np.asarray(size)[..., ::-1] / 2)


def is_about_middle(principal_px: Float[np.ndarray, "2"], size: tuple[int, int]) -> bool:
    """Whether this can be the principal point (x, y) of an image of ``size`` (height, width)."""
    share = corner_from_center(principal_px) / size[::-1]
    return bool(((share > _MIDDLE[0]) & (share < _MIDDLE[1])).all())


def resized_intrinsics(
    intrinsics: Float[np.ndarray, "3 3"], scale: float | Float[np.ndarray, "2"]
) -> Float[np.ndarray, "3 3"]:
    """Of the same image, made ``scale`` (of width and height, or one for both) times as large."""
    resized = np.array(intrinsics, np.float64)
    resized[[0, 1], [0, 1]] *= scale
    # Corners stay corners: lengths are scaled from there.
    resized[:2, 2] = center_from_corner(scale * corner_from_center(resized[:2, 2]))
    return resized
