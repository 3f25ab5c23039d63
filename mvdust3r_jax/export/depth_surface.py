"""A depth map as a surface: where its pixels hang together, and how far from it points are.

Of a plane, inverse depth is linear in the pixels, so the surface is that of inverse depth between
the four pixels of a cell. A cell is whole where they belong to one surface: no edge of it jumps,
unless it goes on as its neighbors on one side do. A floor steps by more and more from row to row
the farther away it is, and is a floor all the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

# A jump belongs to a slanted surface where so many edges beside it, on one side, step alike: none
# of them less than the jump over this factor. Depth that is smeared over an edge of something near
# steps so for fewer pixels.
_ALIKE_EDGES, _ALIKE_FACTOR = 5, 2.0
# Cells are divided into at most so many parts a side.
_MAX_PARTS = 64


class Surface(NamedTuple):
    """Of one view. inverse: 1 / depth, NaN where unknown. whole: cells of one surface."""

    inverse: Float[np.ndarray, "H W"]
    whole: Bool[np.ndarray, "h w"]
    intrinsics: Float[np.ndarray, "3 3"]


def surface_of(
    depth: Float[np.ndarray, "H W"], intrinsics: Float[np.ndarray, "3 3"], jump: float
) -> Surface:
    """depth: along the optical axis, 0 where unknown; steps up to ``jump`` tear nothing."""
    known = np.where(depth > 0, depth, np.nan).astype(np.float64)
    inverse = 1 / known
    rows = _holds(known, inverse, jump)
    columns = _holds(known.T, inverse.T, jump).T
    whole = rows[:-1] & rows[1:] & columns[:, :-1] & columns[:, 1:]
    return Surface(inverse, whole, np.asarray(intrinsics, np.float64))


def _holds(depth: np.ndarray, inverse: np.ndarray, jump: float) -> Bool[np.ndarray, "h w"]:
    """Whether neighbors in a row are of one surface; not where one of them is unknown."""
    step = np.diff(inverse, axis=1)
    near = np.abs(np.diff(depth, axis=1)) <= jump
    return near | _goes_on(step) | _goes_on(step[:, ::-1])[:, ::-1]


def _goes_on(step: np.ndarray) -> Bool[np.ndarray, "h w"]:
    """Whether the steps before each one are in its direction, and large enough for it."""
    alike = np.ones(step.shape, bool)
    for back in range(1, _ALIKE_EDGES + 1):
        before = np.full(step.shape, np.nan)
        before[:, back:] = step[:, :-back]
        # NaN is like nothing.
        alike &= (np.sign(before) == np.sign(step)) & (
            np.abs(step) <= _ALIKE_FACTOR * np.abs(before)
        )
    return alike


def signed_distances(
    surface: Surface, points: Float[np.ndarray, "n 3"], pixels: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, " n"]:
    """Distance of points to the plane that the surface has at their pixel, positive before it.

    points: in the camera's frame; pixels: (u, v) where they are seen. NaN without a surface.
    """
    cell, (w, across, along) = _inverse_at(surface, pixels)
    fx, fy = surface.intrinsics[[0, 1], [0, 1]]
    x, y = ((pixels - surface.intrinsics[:2, 2]) / (fx, fy)).T
    # The plane is a X + b Y + c Z = 1, since 1 / Z = a x + b y + c.
    a, b = across * fx, along * fy
    c = w - a * x - b * y
    with np.errstate(invalid="ignore"):
        distance = (1 - points[:, 2] * w) / np.sqrt(a**2 + b**2 + c**2)
    return np.where(surface.whole[cell], distance, np.nan)


def _inverse_at(surface: Surface, pixels: np.ndarray):
    """Cells of pixels [n, 2], and inverse depth there with its slopes along u and v.

    NaN outside the image, as the cell's number then means nothing.
    """
    height, width = surface.inverse.shape
    inside = ((pixels >= 0) & (pixels <= (width - 1, height - 1))).all(axis=-1)
    place = np.where(inside[:, None], pixels, 0.0)
    column, row = np.minimum(place.astype(int), (width - 2, height - 2)).T
    s, t = (place - np.stack([column, row], axis=-1)).T
    w00, w01 = surface.inverse[row, column], surface.inverse[row, column + 1]
    w10, w11 = surface.inverse[row + 1, column], surface.inverse[row + 1, column + 1]
    w = (1 - t) * ((1 - s) * w00 + s * w01) + t * ((1 - s) * w10 + s * w11)
    across = (1 - t) * (w01 - w00) + t * (w11 - w10)
    along = (1 - s) * (w10 - w00) + s * (w11 - w01)
    return (row, column), (np.where(inside, w, np.nan), across, along)


def points_between(surface: Surface, spacing: float) -> Float[np.ndarray, "n 3"]:
    """Points of the surface, in the camera's frame, inside cells that are larger than ``spacing``.

    Together with the pixels' own points none is farther from the next than about that.
    """
    height, width = surface.inverse.shape
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    corners = _unprojected(
        surface, np.stack([u, v], axis=-1).reshape(-1, 2), surface.inverse.ravel()
    )
    corners = corners.reshape(height, width, 3)
    sides = [np.linalg.norm(np.diff(corners, axis=axis), axis=-1) for axis in (0, 1)]
    longest = np.maximum.reduce([sides[0][:, :-1], sides[0][:, 1:], sides[1][:-1], sides[1][1:]])
    parts = np.where(surface.whole, np.ceil(np.nan_to_num(longest) / spacing), 1)
    parts = np.minimum(parts, _MAX_PARTS).astype(int)
    found = [np.zeros((0, 3))]
    for count in np.unique(parts[parts > 1]).tolist():
        row, column = np.nonzero(parts == count)
        inner = np.stack(np.meshgrid(*[np.arange(count + 1) / count] * 2), axis=-1).reshape(-1, 2)
        # Just inside the cell, which would else be the next one's.
        inner = np.clip(inner, 1e-6, 1 - 1e-6)
        pixels = (np.stack([column, row], axis=-1)[:, None] + inner).reshape(-1, 2)
        found.append(_unprojected(surface, pixels, _inverse_at(surface, pixels)[1][0]))
    return np.concatenate(found)


def _unprojected(surface: Surface, pixels: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    rays = (pixels - surface.intrinsics[:2, 2]) / surface.intrinsics[[0, 1], [0, 1]]
    return np.concatenate([rays, np.ones_like(rays[:, :1])], axis=-1) / inverse[:, None]
