"""Scenes far from their origin, as in the coordinates of maps: moved to where float32 keeps them.

Only poses relative to each other matter to who reads a data set, so each scene may have an origin
of its own. It is subtracted in float64, before anything is rounded.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from data.schema import CorruptRecord

# Below this distance float32 rounds by 0.03 mm at most: such scenes stay as they are.
_NEAR_M = 1000.0
# Up to here it rounds by a millimeter at most, which is the unit of depth.
_LIMIT_M = 32768.0


def scene_origin(first_world_from_cam: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "3"]:
    """The place of the first camera in whole meters, if it is far away; else zero."""
    position_m = np.asarray(first_world_from_cam, np.float64)[:3, 3]
    return np.round(position_m) if np.abs(position_m).max() > _NEAR_M else np.zeros(3)


def moved(
    world_from_cam: Float[np.ndarray, "4 4"], origin_m: Float[np.ndarray, "3"], name: str
) -> Float[np.ndarray, "4 4"]:
    """The pose about this origin; ``CorruptRecord`` where float32 cannot keep it."""
    pose = np.array(world_from_cam, np.float64)
    pose[:3, 3] -= origin_m
    distance_m = np.abs(pose[:3, 3]).max()
    if distance_m > _LIMIT_M:
        raise CorruptRecord(
            f"{name}: the camera is {distance_m:.0f} m from the scene's origin, float32 keeps "
            f"positions to a millimeter up to {_LIMIT_M:.0f} m"
        )
    return pose
