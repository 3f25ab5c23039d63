"""Whether depth, intrinsics and poses of a scene fit each other.

They do not where a convention was mistaken: depth in another unit, poses of another program's axes,
or world-to-camera. Then trajectories may be found all the same, and nothing that is trained on them
can be right; but two views of one place see it in different places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from data.surfaces import world_points

# Pairs of frames that are tried, and how many that see the same are enough.
_TRIED, _ENOUGH = 400, 40
_FEWEST_PAIRS = 3
# Two frames are about one place if so much of what one sees lies in the other's picture.
_SEEN_SHARE = 0.2
# More than sensors and their poses are wrong by: 0.8 % in 7-Scenes' kitchen, where focal lengths
# of 1.2 times the right ones give 5 %, depth of 5 times 14 %, axes of OpenGL 26 %.
MOST = 0.04


@dataclasses.dataclass(frozen=True)
class Sampled:
    """Every ``step``-th pixel of a frame.

    points: in the world, meters, of the pixels whose depth is known. depth_m: 0 where unknown.
    intrinsics: of all pixels.
    """

    points: Float[np.ndarray, "n 3"]
    depth_m: Float[np.ndarray, "h w"]
    intrinsics: Float[np.ndarray, "3 3"]
    world_from_cam: Float[np.ndarray, "4 4"]
    step: int


def sample(
    depth_m: Float[np.ndarray, "H W"],
    intrinsics: Float[np.ndarray, "3 3"],
    world_from_cam: Float[np.ndarray, "4 4"],
    step: int,
) -> Sampled:
    """What is kept of a frame; not its whole depth."""
    camera = intrinsics, world_from_cam
    points = world_points(depth_m, *camera, step)
    return Sampled(points, depth_m[::step, ::step].copy(), *camera, step)


def depth_disagreement(frames: Sequence[Sampled], seed: int = 0) -> float | None:
    """Median over pairs of frames of the median relative difference of depths, None without pairs.

    That of a point of one frame from the other's camera, and the one that stands at its pixel.
    What is hidden in the other frame is mostly less than half, so the median passes over it.
    """
    if len(frames) < 2:
        return None
    rng, found = np.random.default_rng(seed), []
    for _ in range(_TRIED):
        one, other = rng.choice(len(frames), 2, replace=False)
        difference = _difference(frames[one], frames[other])
        if difference is not None:
            found.append(difference)
        if len(found) == _ENOUGH:
            break
    return float(np.median(found)) if len(found) >= _FEWEST_PAIRS else None


def _difference(one: Sampled, other: Sampled) -> float | None:
    """Median of |z - depth| / depth over what both see; None where that is too little."""
    other_from_world = np.linalg.inv(other.world_from_cam)
    points = other_from_world[:3, :3] @ one.points.T + other_from_world[:3, 3:]
    points = points[:, points[2] > 0]
    x, y = (other.intrinsics @ points)[:2] / points[2]
    # The nearest of the pixels that were sampled.
    columns, rows = (np.rint(place / other.step).astype(np.int64) for place in (x, y))
    height, width = other.depth_m.shape
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    depth_m = other.depth_m[rows[inside], columns[inside]]
    known = depth_m > 0
    if np.count_nonzero(known) < max(_SEEN_SHARE * len(one.points), 1):
        return None
    return float(np.median(np.abs(points[2, inside][known] / depth_m[known] - 1)))
