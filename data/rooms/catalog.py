"""What rooms are made of: furniture and material classes as plain tables of numbers.

A furniture class lists parts in its own frame: x along the wall, y out of the wall (its back lies
at -depth/2), z up from its base. Position and half size of a part are affine in the piece's size
``(W, D, H)``: ``relative * size + meters``. A material class gives bounds from which one material
is drawn; its fields are those of ``textures.Field``.
"""

# ruff: noqa: E501
# (A table row reads better in one line than in four.)

from __future__ import annotations

import dataclasses

import numpy as np

from data.rooms.textures import MATERIAL_SIZE, Field

BOX, CYLINDER, SPHERE = 0, 1, 2
# How a class is placed: along a wall on the floor, freely on the floor, on a wall.
WALL, FREE, HUNG = 0, 1, 2
MAX_PARTS = 20


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


def _b(role, at, at_m, half, half_m, **more):
    return Part(BOX, role, at, at_m, half, half_m, **more)


def _c(role, at, at_m, half, half_m, **more):
    return Part(CYLINDER, role, at, at_m, half, half_m, **more)


def _s(role, at, at_m, half, half_m, **more):
    return Part(SPHERE, role, at, at_m, half, half_m, **more)


def _legs(make, inset, radius, top_m, role):
    """Four legs from the floor to ``top_m`` below the height of the piece."""
    return tuple(
        make(
            role,
            (0.5 * x, 0.5 * y, 0.5),
            (-inset * x, -inset * y, -top_m / 2),
            (0, 0, 0.5),
            (radius, radius, -top_m / 2),
        )
        for x in (-1, 1)
        for y in (-1, 1)
    )


def _clutter(height_rel, height_m, first_role, spread=(0.36, 0.25)):
    """Small things on a surface: two piles of books, a vase, a bowl, a ball, a carton."""
    top = (0, 0, height_rel)
    far = {"spread": spread, "turn": 1.5}
    r = first_role
    return (
        _b(r, top, (0, 0, height_m + 0.03), (0, 0, 0), (0.12, 0.09, 0.03), chance=0.6, **far),
        _b(r, top, (0, 0, height_m + 0.05), (0, 0, 0), (0.08, 0.11, 0.05), chance=0.5, **far),
        _c(r + 1, top, (0, 0, height_m + 0.1), (0, 0, 0), (0.05, 0.05, 0.1), chance=0.6, **far),
        _s(r + 1, top, (0, 0, height_m + 0.06), (0, 0, 0), (0.07, 0.07, 0.06), chance=0.5, **far),
        _c(r + 1, top, (0, 0, height_m + 0.04), (0, 0, 0), (0.1, 0.1, 0.04), chance=0.5, **far),
    )


def _shelf_boards(count):
    """Boards at equal heights between floor and top."""
    return tuple(
        _b(0, (0, 0, i / (count - 1)), (0, 0, 0.02 - 0.04 * i / (count - 1)), (0.5, 0.5, 0),
           (-0.02, -0.01, 0.014))
        for i in range(count)
    )  # fmt: skip


def _book_rows(count):
    """A row of books on each board; how long and how tall varies."""
    step = 1.0 / count
    return tuple(
        _b(1 + i % 2, (0.06 * (i % 3 - 1), 0, (i + 0.4) * step), (0, -0.02, 0.01),
           (0.44 - 0.05 * ((i * 7) % 3), 0.4, 0.36 * step), (-0.03, -0.02, 0), chance=0.9,
           spread=(0.02, 0.02))
        for i in range(count)
    )  # fmt: skip


PIECES = {
    "table": Piece(FREE, (1.0, 0.7, 0.68), (1.9, 1.0, 0.78), ("wood", "wood", "books", "ceramic"),
        (_b(0, (0, 0, 1), (0, 0, -0.02), (0.5, 0.5, 0), (0, 0, 0.02)),
         *_legs(_b, 0.06, 0.03, 0.04, 1), *_clutter(1, 0, 2)), 1.6),
    "round_table": Piece(FREE, (0.8, 0.8, 0.45), (1.2, 1.2, 0.76), ("wood", "metal", "books", "ceramic"),
        (_c(0, (0, 0, 1), (0, 0, -0.018), (0.5, 0.5, 0), (0, 0, 0.018)),
         _c(1, (0, 0, 0.5), (0, 0, 0), (0, 0, 0.5), (0.04, 0.04, -0.02)),
         _c(1, (0, 0, 0), (0, 0, 0.015), (0.28, 0.28, 0), (0, 0, 0.015)),
         *_clutter(1, 0, 2, (0.25, 0.25)))),
    "chair": Piece(FREE, (0.42, 0.42, 0.85), (0.52, 0.52, 1.0), ("wood", "fabric"),
        (_b(1, (0, 0, 0.5), (0, 0, 0), (0.5, 0.5, 0), (0, 0, 0.03)),
         _b(1, (0, -0.5, 0.8), (0, 0.02, 0), (0.5, 0, 0.2), (0, 0.02, 0), tilt=0.1),
         *(_b(0, (0.5 * x, 0.5 * y, 0.25), (-0.03 * x, -0.03 * y, 0), (0, 0, 0.25), (0.02, 0.02, -0.01))
           for x in (-1, 1) for y in (-1, 1)),
         _b(0, (-0.5, -0.5, 0.65), (0.02, 0.02, 0), (0, 0, 0.15), (0.018, 0.018, 0)),
         _b(0, (0.5, -0.5, 0.65), (-0.02, 0.02, 0), (0, 0, 0.15), (0.018, 0.018, 0))), 2.0),
    "shelf": Piece(WALL, (0.7, 0.26, 1.2), (1.4, 0.36, 2.1), ("wood", "books", "books2", "ceramic"),
        (_b(0, (-0.5, 0, 0.5), (0.01, 0, 0), (0, 0.5, 0.5), (0.014, 0, 0)),
         _b(0, (0.5, 0, 0.5), (-0.01, 0, 0), (0, 0.5, 0.5), (0.014, 0, 0)),
         _b(0, (0, -0.5, 0.5), (0, 0.01, 0), (0.5, 0, 0.5), (-0.03, 0.006, -0.02)),
         *_shelf_boards(6), *_book_rows(5),
         _c(3, (0.2, 0, 1), (0, 0, 0.12), (0, 0, 0), (0.06, 0.06, 0.12), chance=0.5),
         _s(3, (-0.2, 0, 1), (0, 0, 0.08), (0, 0, 0), (0.08, 0.08, 0.08), chance=0.5)), 2.0),
    "sofa": Piece(WALL, (1.4, 0.8, 0.75), (2.3, 1.0, 0.9), ("fabric", "cushion", "cushion2"),
        (_b(0, (0, 0.05, 0.25), (0, 0, 0.03), (0.5, 0.45, 0.2), (0, 0, 0)),
         _b(0, (0, -0.5, 0.55), (0, 0.11, 0), (0.5, 0, 0.45), (0, 0.1, 0)),
         _b(0, (-0.5, 0, 0.35), (0.09, 0, 0), (0, 0.5, 0.35), (0.09, 0, 0)),
         _b(0, (0.5, 0, 0.35), (-0.09, 0, 0), (0, 0.5, 0.35), (0.09, 0, 0)),
         _b(1, (-0.21, 0.1, 0.5), (0, 0, 0.03), (0.19, 0.36, 0), (0, 0, 0.06)),
         _b(1, (0.21, 0.1, 0.5), (0, 0, 0.03), (0.19, 0.36, 0), (0, 0, 0.06)),
         _s(2, (-0.28, -0.16, 0.78), (0, 0, 0), (0, 0, 0), (0.2, 0.09, 0.18), turn=0.4, tilt=0.3),
         _s(2, (0.28, -0.16, 0.78), (0, 0, 0), (0, 0, 0), (0.19, 0.09, 0.17), chance=0.8, turn=0.4, tilt=0.3),
         _s(1, (0.05, -0.14, 0.76), (0, 0, 0), (0, 0, 0), (0.17, 0.08, 0.15), chance=0.4, turn=0.5, tilt=0.3)), 1.6),
    "bed": Piece(WALL, (1.0, 1.9, 0.5), (1.8, 2.1, 0.6), ("wood", "fabric", "cushion", "fabric"),
        (_b(0, (0, 0, 0.3), (0, 0, 0), (0.5, 0.5, 0.2), (0, 0, 0)),
         _b(2, (0, 0, 0.7), (0, 0, 0), (0.48, 0.48, 0.25), (0, 0, 0)),
         _b(0, (0, -0.5, 1), (0, 0.03, 0.1), (0.5, 0, 0.9), (0, 0.03, 0)),
         _b(1, (0, 0.16, 0.9), (0, 0, 0), (0.5, 0.33, 0.12), (0.01, 0, 0)),
         _s(2, (-0.24, -0.36, 1), (0, 0, 0.06), (0.2, 0, 0), (0, 0.2, 0.09), turn=0.2),
         _s(2, (0.24, -0.36, 1), (0, 0, 0.06), (0.2, 0, 0), (0, 0.2, 0.09), turn=0.2),
         _b(3, (0, 0.35, 1), (0, 0, 0.05), (0.3, 0.1, 0), (0, 0, 0.04), chance=0.6, turn=0.3, spread=(0.1, 0.05))), 1.2),
    "cabinet": Piece(WALL, (0.8, 0.38, 0.7), (1.6, 0.5, 1.1), ("wood", "drawer", "metal", "books", "ceramic"),
        (_b(0, (0, 0, 0.53), (0, 0, 0), (0.5, 0.5, 0.47), (0, -0.01, 0)),
         *(_b(1, (0.245 * x, 0.5, 0.2 + 0.3 * i), (0, -0.005, 0.03), (0.235, 0, 0.135), (0, 0.012, 0))
           for x in (-1, 1) for i in range(3)),
         *(_s(2, (0.245 * x, 0.5, 0.2 + 0.3 * i), (0, 0.015, 0.03), (0, 0, 0), (0.018, 0.018, 0.018))
           for x in (-1, 1) for i in range(3)),
         *_clutter(1, 0, 3, (0.38, 0.2))), 1.6),
    "wardrobe": Piece(WALL, (0.9, 0.5, 1.8), (1.8, 0.62, 2.2), ("wood", "drawer", "metal", "cardboard"),
        (_b(0, (0, 0, 0.5), (0, 0, 0), (0.5, 0.5, 0.5), (0, 0, 0)),
         _b(1, (-0.25, 0.5, 0.52), (0, 0, 0), (0.235, 0, 0.45), (0, 0.014, 0)),
         _b(1, (0.25, 0.5, 0.52), (0, 0, 0), (0.235, 0, 0.45), (0, 0.014, 0)),
         _c(2, (-0.05, 0.5, 0.5), (0, 0.03, 0), (0, 0, 0.06), (0.01, 0.01, 0)),
         _c(2, (0.05, 0.5, 0.5), (0, 0.03, 0), (0, 0, 0.06), (0.01, 0.01, 0)),
         _b(3, (0.2, 0, 1), (0, 0, 0.12), (0, 0, 0), (0.2, 0.15, 0.12), chance=0.4, turn=0.3))),
    "lamp": Piece(WALL, (0.36, 0.36, 1.4), (0.5, 0.5, 1.7), ("metal", "shade"),
        (_c(0, (0, 0, 0), (0, 0, 0.015), (0.36, 0.36, 0), (0, 0, 0.015)),
         _c(0, (0, 0, 0.42), (0, 0, 0), (0, 0, 0.42), (0.014, 0.014, 0)),
         _c(1, (0, 0, 0.9), (0, 0, 0), (0.48, 0.48, 0.1), (0, 0, 0)))),
    "plant": Piece(WALL, (0.4, 0.4, 0.7), (0.7, 0.7, 1.7), ("ceramic", "leaf", "wood"),
        (_c(0, (0, 0, 0), (0, 0, 0.15), (0.28, 0.28, 0), (0, 0, 0.15)),
         _c(2, (0, 0, 0.35), (0, 0, 0.1), (0, 0, 0.3), (0.018, 0.018, 0), tilt=0.08),
         *(_s(1, (0.14 * x, 0.14 * y, z), (0, 0, 0), (0.34, 0.3, 0.13), (0, 0, 0), turn=1.5, tilt=0.7, spread=(0.1, 0.1))
           for x, y, z in ((-1, 0, 0.62), (1, 1, 0.72), (0, -1, 0.8), (0, 0, 0.92), (1, -1, 0.57)))), 1.2),
    "tv": Piece(WALL, (1.1, 0.38, 0.4), (1.7, 0.45, 0.55), ("wood", "drawer", "plastic", "picture", "books", "ceramic"),
        (_b(0, (0, 0, 0.55), (0, 0, 0), (0.5, 0.5, 0.45), (0, 0, 0)),
         _b(1, (-0.25, 0.5, 0.55), (0, 0, 0), (0.23, 0, 0.36), (0, 0.01, 0)),
         _b(1, (0.25, 0.5, 0.55), (0, 0, 0), (0.23, 0, 0.36), (0, 0.01, 0)),
         _b(2, (0, -0.2, 1), (0, 0, 0.4), (0.38, 0, 0), (0, 0.025, 0.34)),
         _b(3, (0, -0.2, 1), (0, 0.022, 0.4), (0.36, 0, 0), (0, 0.008, 0.315)),
         _b(2, (0, -0.2, 1), (0, 0, 0.03), (0.1, 0.2, 0), (0, 0, 0.03)))),
    "desk": Piece(WALL, (1.1, 0.6, 0.7), (1.6, 0.75, 0.76), ("wood", "metal", "plastic", "picture", "books", "ceramic"),
        (_b(0, (0, 0, 1), (0, 0, -0.015), (0.5, 0.5, 0), (0, 0, 0.015)),
         _b(0, (-0.5, 0, 0.5), (0.02, 0, -0.02), (0, 0.46, 0.5), (0.015, 0, -0.02)),
         _b(0, (0.32, 0, 0.5), (0, 0, -0.02), (0.16, 0.44, 0.5), (0, 0, -0.02)),
         _b(2, (0, -0.3, 1), (0, 0, 0.08), (0, 0, 0), (0.03, 0.02, 0.08)),
         _b(2, (0, -0.3, 1), (0, 0.02, 0.29), (0, 0, 0), (0.28, 0.015, 0.18), turn=0.2),
         _b(2, (0, 0.1, 1), (0, 0, 0.01), (0, 0, 0), (0.21, 0.07, 0.01), turn=0.2),
         *_clutter(1, 0, 4, (0.42, 0.2))), 1.3),
    "cartons": Piece(WALL, (0.5, 0.45, 0.35), (0.8, 0.6, 0.5), ("cardboard", "cardboard", "fabric", "ceramic"),
        (_b(0, (0, 0, 0.5), (0, 0, 0), (0.45, 0.45, 0.5), (0, 0, 0), turn=0.2),
         _b(1, (0, 0, 1), (0, 0, 0.13), (0.3, 0.3, 0), (0, 0, 0.13), turn=0.6),
         _b(1, (0.1, 0, 1), (0, 0, 0.34), (0.18, 0.2, 0), (0, 0, 0.08), turn=0.9, chance=0.5),
         _s(3, (0.5, 0.4, 0), (0.1, 0, 0.12), (0, 0, 0), (0.12, 0.12, 0.12), chance=0.5))),
    "stool": Piece(FREE, (0.35, 0.35, 0.4), (0.6, 0.6, 0.5), ("fabric", "wood"),
        (_c(0, (0, 0, 0.8), (0, 0, 0), (0.5, 0.5, 0.2), (0, 0, 0)),
         _c(1, (0, 0, 0.3), (0, 0, 0), (0.42, 0.42, 0.3), (0, 0, 0)))),
    "pillar": Piece(WALL, (0.35, 0.3, 2.2), (0.6, 0.5, 2.9), ("wall", "wall"),
        (_b(0, (0, 0, 0.5), (0, 0, 0.2), (0.5, 0.5, 0.5), (0, 0, 0.3)),), 0.4),
    "poster": Piece(HUNG, (0.4, 0.03, 0.4), (1.1, 0.04, 0.9), ("frame", "picture"),
        (_b(0, (0, 0, 0.5), (0, 0, 0), (0.5, 0.5, 0.5), (0, 0, 0)),
         _b(1, (0, 0, 0.5), (0, 0.004, 0), (0.5, 0.5, 0.5), (-0.035, 0, -0.035))), 2.5, (1.1, 1.5)),
    "window": Piece(HUNG, (0.8, 0.1, 1.0), (1.6, 0.12, 1.3), ("white", "sky", "curtain", "ceramic"),
        (_b(1, (0, 0, 0.5), (0, -0.03, 0), (0.5, 0, 0.5), (0, 0.012, 0)),
         _b(0, (-0.5, 0, 0.5), (0, 0, 0), (0, 0.5, 0.5), (0.035, 0, 0.035)),
         _b(0, (0.5, 0, 0.5), (0, 0, 0), (0, 0.5, 0.5), (0.035, 0, 0.035)),
         _b(0, (0, 0, 1), (0, 0, 0), (0.5, 0.5, 0), (0, 0, 0.035)),
         _b(0, (0, 0.4, 0), (0, 0, 0), (0.5, 0.9, 0), (0.06, 0, 0.03)),
         _b(0, (0, 0, 0.5), (0, -0.01, 0), (0, 0.2, 0.5), (0.02, 0, 0)),
         _b(0, (0, 0, 0.62), (0, -0.01, 0), (0.5, 0.2, 0), (0, 0, 0.018)),
         _b(2, (-0.5, 0.6, 0.5), (-0.15, 0, -0.1), (0, 0.25, 0.5), (0.16, 0, 0.3), chance=0.6),
         _b(2, (0.5, 0.6, 0.5), (0.15, 0, -0.1), (0, 0.25, 0.5), (0.16, 0, 0.3), chance=0.6),
         _c(3, (0.2, 1.2, 0), (0, 0, 0.12), (0, 0, 0), (0.05, 0.05, 0.1), chance=0.5)), 1.5, (0.8, 1.0)),
    "door": Piece(HUNG, (0.8, 0.08, 2.0), (0.95, 0.09, 2.1), ("white", "door", "metal"),
        (_b(1, (0, 0, 0.5), (0, -0.02, 0), (0.5, 0.2, 0.5), (0, 0, 0)),
         _b(0, (-0.5, 0, 0.5), (-0.03, 0, 0.03), (0, 0.5, 0.5), (0.04, 0, 0.03)),
         _b(0, (0.5, 0, 0.5), (0.03, 0, 0.03), (0, 0.5, 0.5), (0.04, 0, 0.03)),
         _b(0, (0, 0, 1), (0, 0, 0.03), (0.5, 0.5, 0), (0, 0, 0.035)),
         _b(1, (0, 0.1, 0.75), (0, 0, 0), (0.36, 0.3, 0.17), (0, 0, 0)),
         _b(1, (0, 0.1, 0.27), (0, 0, 0), (0.36, 0.3, 0.2), (0, 0, 0)),
         _s(2, (0.42, 0.5, 0.48), (0, 0.01, 0), (0, 0, 0), (0.03, 0.04, 0.03))), 0.9),
    "wall_shelf": Piece(HUNG, (0.6, 0.22, 0.25), (1.2, 0.26, 0.32), ("wood", "books", "ceramic"),
        (_b(0, (0, 0, 0), (0, 0, 0), (0.5, 0.5, 0), (0, 0, 0.015)),
         _b(1, (-0.12, -0.05, 0.45), (0, 0, 0), (0.3, 0.36, 0.4), (0, 0, 0)),
         _c(2, (0.32, 0, 0.35), (0, 0, 0.01), (0, 0, 0.3), (0.05, 0.05, 0)),
         _s(2, (0.44, 0, 0.2), (0, 0, 0.01), (0, 0, 0), (0.05, 0.05, 0.05))), 1.2, (1.2, 1.6)),
    "clock": Piece(HUNG, (0.26, 0.04, 0.26), (0.4, 0.05, 0.4), ("plastic", "white", "plastic"),
        (_s(0, (0, 0, 0.5), (0, 0, 0), (0.5, 0.5, 0.5), (0, 0, 0)),
         _s(1, (0, 0.12, 0.5), (0, 0, 0), (0.43, 0.5, 0.43), (0, 0, 0)),
         _b(2, (0, 0.62, 0.62), (0, 0.006, 0), (0, 0, 0.14), (0.008, 0.003, 0)),
         _b(2, (0.1, 0.62, 0.5), (0, 0.006, 0), (0.12, 0, 0), (0, 0.003, 0.006))), 0.6, (1.6, 1.8)),
}  # fmt: skip
MAX_ROLES = max(len(piece.roles) for piece in PIECES.values())


def _material(a, b=(0.0, 1.0, 0.8), c=(0.0, 1.0, 0.5), **fields):
    """Bounds ``[2, MATERIAL_SIZE]`` of one class.

    a: bounds of hue, saturation, value; b, c: (hue shift, saturation factor, value factor) of the
    other colors, jittered by 15 %. fields: a number or (low, high) per field; the seed is free.
    """
    bounds = np.zeros((2, MATERIAL_SIZE), np.float32)
    bounds[:, 0:3] = np.array(a, np.float32).T
    for first, color in ((Field.B, b), (Field.C, c)):
        bounds[:, first : first + 3] = np.array(color, np.float32)
        bounds[:, first] += (-0.03, 0.03)
        bounds[:, first + 1 : first + 3] *= np.array([[0.85], [1.15]], np.float32)
    defaults = {"CELL_U": 4.0, "CELL_V": 4.0, "NOISE_FREQ": 4.0, "GRAIN_U": 4.0, "GRAIN_V": 4.0}
    for name, value in {**defaults, "SEED": (0, 60000), **fields}.items():
        bounds[:, Field[name]] = value
    return bounds


_ANY = (0.0, 1.0)
_WOOD_HUE = ((0.05, 0.105), (0.25, 0.62), (0.22, 0.8))
MATERIALS = {
    "plaster": _material(((0.05, 0.6), (0.02, 0.25), (0.6, 0.92)), (0, 1.2, 0.8), NOISE=(0.3, 0.8),
        NOISE_FREQ=(1.0, 5.0), SPECKLE=(0.03, 0.12), GRAIN=(0.0, 0.06), GRAIN_U=9, GRAIN_V=25),
    "wallpaper": _material((_ANY, (0.04, 0.4), (0.6, 0.92)), (0.08, 1.1, 0.85), (0.06, 1.3, 0.7),
        CELL_U=(0.12, 0.35), CELL_V=(0.12, 0.35), STAGGER=0.5, MOTIF=(0.35, 0.8), CHECKER=(0, 0.5),
        NOISE=(0.1, 0.4), NOISE_FREQ=(2, 8), SPECKLE=(0.02, 0.1), TONE=(0.0, 0.08)),
    "stripes": _material((_ANY, (0.04, 0.4), (0.6, 0.92)), (0.05, 1.1, 0.8), (0.5, 1.0, 0.6),
        CELL_U=(0.08, 0.35), CELL_V=50, GAP=(0.0, 0.01), CHECKER=(0.4, 1), NOISE=(0.1, 0.4),
        NOISE_FREQ=(1, 6), SPECKLE=(0.02, 0.1), TONE=(0, 0.15)),
    "brick": _material(((0.015, 0.08), (0.25, 0.6), (0.4, 0.8)), (0.02, 0.8, 0.6), (0.05, 0.2, 1.4),
        CELL_U=(0.2, 0.3), CELL_V=(0.065, 0.1), STAGGER=0.5, GAP=(0.004, 0.008), TONE=(0.15, 0.4),
        HUE=(0.0, 0.05), NOISE=(0.3, 0.6), NOISE_FREQ=(6, 20), SPECKLE=(0.05, 0.15)),
    "wall_tiles": _material((_ANY, (0.03, 0.4), (0.6, 0.92)), (0.06, 1.0, 0.8), (0, 0.3, 0.6),
        CELL_U=(0.1, 0.4), CELL_V=(0.1, 0.3), STAGGER=(0, 0.5), GAP=(0.002, 0.005), TONE=(0.04, 0.2),
        CHECKER=(0, 0.6), NOISE=(0.1, 0.4), NOISE_FREQ=(3, 12), GLOSS=(0.2, 0.6)),
    "planks": _material(_WOOD_HUE, (0.01, 1.1, 0.7), (0.0, 1.0, 0.35), CELL_U=(0.7, 1.8),
        CELL_V=(0.07, 0.2), STAGGER=(0.3, 0.45), GAP=(0.001, 0.003), TONE=(0.08, 0.35),
        GRAIN_U=(1.5, 4), GRAIN_V=(25, 70), GRAIN=(0.08, 0.25), NOISE=(0.1, 0.5), NOISE_FREQ=(1, 6),
        GLOSS=(0.05, 0.4)),
    "floor_tiles": _material((_ANY, (0.03, 0.3), (0.45, 0.9)), (0.05, 1.0, 0.6), (0, 0.3, 0.5),
        CELL_U=(0.25, 0.6), CELL_V=(0.25, 0.6), GAP=(0.003, 0.006), TONE=(0.05, 0.2), CHECKER=(0, 1),
        NOISE=(0.2, 0.6), NOISE_FREQ=(2, 10), SPECKLE=(0.02, 0.08), GLOSS=(0.1, 0.5)),
    "carpet": _material((_ANY, (0.08, 0.55), (0.3, 0.8)), (0.08, 1.0, 0.6), (0.45, 1.0, 0.8),
        CELL_U=(0.15, 0.6), CELL_V=(0.15, 0.6), STAGGER=(0, 0.5), GAP=(0.0, 0.015), CHECKER=(0, 1),
        MOTIF=(0, 0.8), NOISE=(0.3, 0.8), NOISE_FREQ=(4, 25), SPECKLE=(0.1, 0.3), TONE=(0, 0.15)),
    "wood": _material(_WOOD_HUE, (0.01, 1.1, 0.65), CELL_U=9, CELL_V=9, GRAIN_U=(1.5, 5),
        GRAIN_V=(20, 60), GRAIN=(0.1, 0.3), NOISE=(0.2, 0.7), NOISE_FREQ=(2, 7), GLOSS=(0.05, 0.4)),
    "fabric": _material((_ANY, (0.05, 0.6), (0.25, 0.85)), (0.1, 1.1, 0.6), (0.4, 1.0, 0.8),
        CELL_U=(0.04, 0.3), CELL_V=(0.04, 0.3), CHECKER=(0, 0.7), GAP=(0, 0.004), NOISE=(0.2, 0.7),
        NOISE_FREQ=(4, 18), SPECKLE=(0.05, 0.25), MOTIF=(0, 0.3)),
    "cushion": _material((_ANY, (0.05, 0.75), (0.45, 0.95)), (0.15, 1.0, 0.8), (0.5, 1.0, 0.8),
        CELL_U=(0.03, 0.15), CELL_V=(0.03, 0.15), CHECKER=(0, 1), NOISE=(0.2, 0.6),
        NOISE_FREQ=(5, 20), SPECKLE=(0.03, 0.15), MOTIF=(0, 0.7), STAGGER=(0, 0.5)),
    "books": _material((_ANY, (0.2, 0.7), (0.3, 0.7)), (0.3, 1.0, 0.8), (0, 0.5, 0.15),
        CELL_U=(0.025, 0.05), CELL_V=3, GAP=0.0015, TONE=(0.3, 0.7), HUE=(0.3, 0.8), MOTIF=(0, 0.0),
        NOISE=(0.1, 0.5), NOISE_FREQ=(6, 15), GRAIN_U=1, GRAIN_V=22, GRAIN=(0.1, 0.5)),
    "metal": _material((_ANY, (0.0, 0.15), (0.15, 0.7)), NOISE=(0.05, 0.3), NOISE_FREQ=(5, 20),
        GRAIN=(0.02, 0.1), GRAIN_U=60, GRAIN_V=3, GLOSS=(0.4, 1.0)),
    "plastic": _material((_ANY, (0.0, 0.2), (0.05, 0.3)), NOISE=(0.05, 0.3), NOISE_FREQ=(5, 20),
        SPECKLE=(0, 0.05), GLOSS=(0.2, 0.7)),
    "ceramic": _material((_ANY, (0.05, 0.7), (0.4, 0.95)), (0.3, 1.0, 0.9), (0.3, 1.0, 0.7),
        CELL_U=(0.03, 0.1), CELL_V=(0.02, 0.08), CHECKER=(0, 1), HUE=(0, 0.2), NOISE=(0.1, 0.6),
        NOISE_FREQ=(6, 25), GLOSS=(0.3, 0.9), MOTIF=(0, 0.6)),
    "drawer": _material(_WOOD_HUE, (0.01, 1.1, 0.7), GRAIN_U=(1.5, 5), GRAIN_V=(20, 60),
        GRAIN=(0.08, 0.25), NOISE=(0.2, 0.6), NOISE_FREQ=(2, 7), GLOSS=(0.1, 0.4)),
    "cardboard": _material(((0.07, 0.1), (0.3, 0.5), (0.5, 0.75)), (0, 1.0, 0.8), (0.0, 0.8, 0.6),
        CELL_U=(0.15, 0.4), CELL_V=(0.15, 0.4), GAP=(0, 0.006), NOISE=(0.2, 0.5), NOISE_FREQ=(4, 15),
        SPECKLE=(0.05, 0.12), MOTIF=(0, 0.3)),
    "shade": _material(((0.06, 0.14), (0.1, 0.5), (0.8, 0.95)), CELL_U=(0.03, 0.1), CELL_V=5,
        GAP=0.003, NOISE=(0.05, 0.3), EMISSION=(0.5, 1.0)),
    "leaf": _material(((0.2, 0.36), (0.35, 0.65), (0.3, 0.6)), (0.05, 1.0, 0.4), (0, 1.0, 0.25),
        CELL_U=(0.05, 0.09), CELL_V=(0.03, 0.06), STAGGER=0.5, GAP=(0.003, 0.007), TONE=(0.3, 0.6),
        NOISE=(0.5, 1.0), NOISE_FREQ=(8, 25), HUE=(0, 0.1)),
    "picture": _material((_ANY, (0.1, 0.6), (0.3, 0.9)), (0.2, 1.2, 0.7), (0.5, 1.0, 0.5),
        CELL_U=(0.07, 0.35), CELL_V=(0.07, 0.35), STAGGER=(0, 0.5), TONE=(0.2, 0.5), HUE=(0.1, 0.7),
        MOTIF=(0, 0.9), GAP=(0, 0.01), NOISE=(0.3, 0.9), NOISE_FREQ=(3, 14), RAINBOW=(0.2, 0.9)),
    "frame": _material(((0.0, 0.15), (0.0, 0.6), (0.05, 0.9)), GRAIN_U=3, GRAIN_V=40,
        GRAIN=(0, 0.2), NOISE=(0.1, 0.3), GLOSS=(0.1, 0.5)),
    "white": _material(((0.05, 0.15), (0.0, 0.1), (0.7, 0.95)), NOISE=(0.1, 0.3),
        NOISE_FREQ=(2, 6), SPECKLE=(0, 0.04), GLOSS=(0.1, 0.4)),
    "sky": _material(((0.45, 0.6), (0.1, 0.4), (0.7, 0.95)), (-0.25, 1.3, 0.55), NOISE=(0.8, 1.3),
        NOISE_FREQ=(1.5, 5), RAINBOW=(0.1, 0.3), EMISSION=(0.6, 1.0)),
    "curtain": _material((_ANY, (0.1, 0.6), (0.4, 0.9)), (0.1, 1.0, 0.7), (0.0, 1.0, 0.55),
        CELL_U=(0.04, 0.1), CELL_V=20, GAP=(0.003, 0.01), TONE=(0.05, 0.2), NOISE=(0.2, 0.5),
        NOISE_FREQ=(3, 12), SPECKLE=(0.02, 0.1)),
    "door": _material(((0.05, 0.12), (0.05, 0.7), (0.3, 0.9)), (0, 1.0, 0.8), GRAIN_U=30,
        GRAIN_V=(2, 4), GRAIN=(0.02, 0.2), NOISE=(0.1, 0.5), NOISE_FREQ=(2, 7), GLOSS=(0.1, 0.4)),
    "ceiling": _material(((0.05, 0.2), (0.0, 0.12), (0.75, 0.95)), (0, 1.0, 0.85),
        NOISE=(0.2, 0.6), NOISE_FREQ=(1, 4), SPECKLE=(0.03, 0.1), CELL_U=(0.5, 1.5),
        CELL_V=(0.5, 1.5), GAP=(0, 0.004)),
}  # fmt: skip
# Other names under which classes draw a material of their own.
ALIASES = {"books2": "books", "cushion2": "cushion", "wall": "plaster"}
WALL_CLASSES = ("plaster", "wallpaper", "stripes", "brick", "wall_tiles", "planks")
WALL_WEIGHTS = (0.3, 0.25, 0.12, 0.13, 0.1, 0.1)
FLOOR_CLASSES = ("planks", "floor_tiles", "carpet")
FLOOR_WEIGHTS = (0.45, 0.3, 0.25)
CLASS_NAMES = tuple(MATERIALS)


def class_index(name: str) -> int:
    """Row of a material class; unknown names raise ValueError."""
    name = ALIASES.get(name, name)
    if name not in MATERIALS:
        raise ValueError(f"unknown material class {name!r}; known: {', '.join(CLASS_NAMES)}")
    return CLASS_NAMES.index(name)


def material_bounds() -> np.ndarray:
    """Bounds ``[classes, 2, MATERIAL_SIZE]``."""
    return np.stack([MATERIALS[name] for name in CLASS_NAMES])


@dataclasses.dataclass(frozen=True)
class PieceTables:
    """The catalog as arrays: F classes, ``MAX_PARTS`` parts each."""

    place: np.ndarray  # [F]
    weight: np.ndarray  # [F]
    size: np.ndarray  # [F, 2, 3]
    base_m: np.ndarray  # [F, 2]
    roles: np.ndarray  # [F, MAX_ROLES] material class
    shape: np.ndarray  # [F, P]
    role: np.ndarray  # [F, P]
    geometry: np.ndarray  # [F, P, 4, 3]: at, at_m, half, half_m
    chance: np.ndarray  # [F, P]; 0 for unused slots
    jitter: np.ndarray  # [F, P, 4]: spread x, y, turn, tilt


def piece_tables() -> PieceTables:
    """Pack ``PIECES`` into arrays."""
    count = len(PIECES)
    tables = PieceTables(
        place=np.array([p.place for p in PIECES.values()]),
        weight=np.array([p.weight for p in PIECES.values()], np.float32),
        size=np.array([(p.low, p.high) for p in PIECES.values()], np.float32),
        base_m=np.array([p.base_m for p in PIECES.values()], np.float32),
        roles=np.zeros((count, MAX_ROLES), np.int32),
        shape=np.zeros((count, MAX_PARTS), np.int32),
        role=np.zeros((count, MAX_PARTS), np.int32),
        geometry=np.zeros((count, MAX_PARTS, 4, 3), np.float32),
        chance=np.zeros((count, MAX_PARTS), np.float32),
        jitter=np.zeros((count, MAX_PARTS, 4), np.float32),
    )
    for i, piece in enumerate(PIECES.values()):
        tables.roles[i, : len(piece.roles)] = [class_index(name) for name in piece.roles]
        for j, part in enumerate(piece.parts):
            tables.shape[i, j], tables.role[i, j] = part.shape, part.role
            tables.geometry[i, j] = (part.at, part.at_m, part.half, part.half_m)
            tables.chance[i, j] = part.chance
            tables.jitter[i, j] = (*part.spread, part.turn, part.tilt)
    return tables
