"""What a furniture class is: parts in its own frame, sizes relative to the piece's.

The frame of a piece: x along the wall, y out of the wall (its back lies at -depth/2), z up from its
base. Position and half size of a part are affine in the piece's size ``(W, D, H)``:
``relative * size + meters``.
"""

from __future__ import annotations

import dataclasses

BOX, CYLINDER, SPHERE = 0, 1, 2
# How a class is placed: along a wall on the floor, freely on the floor, on a wall.
WALL, FREE, HUNG = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Part:
    """One primitive of a piece. at, half: (relative to size, meters); role: index of a material.

    chance: how often the part exists; spread: half range of random shifts in x, y (share of
    size); turn, tilt: half ranges of random rotation about z and x, radians.
    """

    shape: int
    role: int
    at: tuple
    at_m: tuple
    half: tuple
    half_m: tuple
    chance: float = 1.0
    spread: tuple = (0.0, 0.0)
    turn: float = 0.0
    tilt: float = 0.0


@dataclasses.dataclass(frozen=True)
class Piece:
    """One furniture class.

    low, high: bounds of the size (W, D, H); roles: material class names; weight: how often it is
    chosen; base_m: bounds of the height above the floor.
    """

    place: int
    low: tuple
    high: tuple
    roles: tuple
    parts: tuple
    weight: float = 1.0
    base_m: tuple = (0.0, 0.0)


def box(role, at, at_m, half, half_m, **more) -> Part:
    """A box; see `Part`."""
    return Part(BOX, role, at, at_m, half, half_m, **more)


def cylinder(role, at, at_m, half, half_m, **more) -> Part:
    """A standing cylinder; see `Part`."""
    return Part(CYLINDER, role, at, at_m, half, half_m, **more)


def sphere(role, at, at_m, half, half_m, **more) -> Part:
    """An ellipsoid; see `Part`."""
    return Part(SPHERE, role, at, at_m, half, half_m, **more)


def clutter(height_rel, height_m, first_role, spread=(0.36, 0.25)) -> tuple[Part, ...]:
    """Small things on a surface: two piles of books, a vase, a ball, a bowl.

    height_rel, height_m: of the surface; first_role: of the books, the next one is of the rest.
    """
    top = (0, 0, height_rel)
    far = {"spread": spread, "turn": 1.5}
    book, pot = first_role, first_role + 1
    return (
        box(book, top, (0, 0, height_m + 0.03), (0, 0, 0), (0.12, 0.09, 0.03), chance=0.6, **far),
        box(book, top, (0, 0, height_m + 0.05), (0, 0, 0), (0.08, 0.11, 0.05), chance=0.5, **far),
        cylinder(pot, top, (0, 0, height_m + 0.1), (0, 0, 0), (0.05, 0.05, 0.1), chance=0.6, **far),
        sphere(pot, top, (0, 0, height_m + 0.06), (0, 0, 0), (0.07, 0.07, 0.06), chance=0.5, **far),
        cylinder(pot, top, (0, 0, height_m + 0.04), (0, 0, 0), (0.1, 0.1, 0.04), chance=0.5, **far),
    )
