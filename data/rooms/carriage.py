"""How a camera is carried: level at eye height, or in a hand that tilts, rolls and lowers it."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mvdust3r_jax import pytrees


@pytrees.dataclass
class Carriage:
    """Bounds from which a walk is drawn. Lengths in meters, angles in radians.

    eye: height of the camera. over: whether it may be held over furniture. away, gaze: horizontal
    distance and height of the gazed point. roll: largest roll of one view. lean: largest roll that
    all views of a path share. climb: largest rise along a path. outlook: views of less median depth
    look at a wall. content: wanted share of a view that is furniture, pictures or doors rather than
    bare shell.
    """

    eye: tuple[float, float] | Float[Array, "2"] = (1.2, 1.8)
    over: bool | Bool[Array, ""] = False
    away: tuple[float, float] | Float[Array, "2"] = (1.5, math.inf)
    gaze: tuple[float, float] | Float[Array, "2"] = (0.5, 1.35)
    roll: float | Float[Array, ""] = 0.03
    lean: float | Float[Array, ""] = 0.0
    climb: float | Float[Array, ""] = 0.0
    outlook: float | Float[Array, ""] = 1.2
    content: float | Float[Array, ""] = 0.3


LEVEL = Carriage()
# Somebody who scans a room with a phone looks down (to 60 degrees), stoops and stretches, and holds
# it over tables and beds.
IN_HAND = Carriage(
    eye=(0.9, 1.9),
    over=True,
    away=(0.8, 2.5),
    gaze=(0.0, 1.3),
    roll=0.1,
    lean=0.3,
    climb=0.3,
    outlook=0.8,
    content=0.8,
)


def carried(in_hand: Bool[Array, ""]) -> Carriage:
    """`IN_HAND` or `LEVEL`."""
    return jax.tree.map(lambda held, level: jnp.where(in_hand, held, level), IN_HAND, LEVEL)
