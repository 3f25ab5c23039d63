"""Fitted furniture: kitchen counters with what stands on them, built-in cupboards, wall cabinets.

Long, plain surfaces at the height of a hip: without them a network takes every large plain area
low in a picture for a floor. With them come tables that have chairs pushed under them. Drawn only
where ``Options.fitted`` asks for it.
"""

# ruff: noqa: E501
# (A table row reads better in one line than in four.)

from __future__ import annotations

from data.rooms.pieces import FREE, HUNG, WALL, Part, Piece, box, clutter, cylinder, sphere


def _body(foot_m, top_m):
    """Plinth (role 2) set back from the front, body (role 0), and a worktop (role 1) of ``top_m``."""
    return (
        box(2, (0, 0, 0), (0, -0.03, foot_m / 2), (0.5, 0.5, 0), (-0.02, -0.05, foot_m / 2)),
        box(0, (0, 0, 0.5), (0, -0.01, (foot_m - top_m) / 2), (0.5, 0.5, 0.5), (0, -0.01, -(foot_m + top_m) / 2)),
        box(1, (0, 0, 1), (0, 0.005, -top_m / 2), (0.5, 0.5, 0), (0.01, 0.015, top_m / 2)),
    )  # fmt: skip


def _kitchenware(made, paper, spread=(0.42, 0.2), y=0.0) -> tuple[Part, ...]:
    """Bottle, pot, mug, bowl, cartons, a board and a machine on top, around ``y`` of the depth.

    made, paper: roles of the round and of the cornered things.
    """
    far = {"spread": spread, "turn": 1.5}
    on = (0, y, 1)
    return (
        cylinder(made, on, (0, 0, 0.14), (0, 0, 0), (0.036, 0.036, 0.14), chance=0.6, **far),
        cylinder(made, on, (0, 0, 0.11), (0, 0, 0), (0.085, 0.085, 0.11), chance=0.5, **far),
        cylinder(made, on, (0, 0, 0.05), (0, 0, 0), (0.04, 0.04, 0.05), chance=0.6, **far),
        sphere(made, on, (0, 0, 0.05), (0, 0, 0), (0.13, 0.13, 0.06), chance=0.4, **far),
        box(paper, on, (0, 0, 0.11), (0, 0, 0), (0.08, 0.04, 0.11), chance=0.6, **far),
        box(paper, on, (0, 0, 0.07), (0, 0, 0), (0.14, 0.09, 0.07), chance=0.4, **far),
        box(paper, on, (0, 0, 0.16), (0, 0, 0), (0.15, 0.009, 0.16), chance=0.4, **far, tilt=0.2),
        box(2, on, (0, 0, 0.17), (0, 0, 0), (0.12, 0.14, 0.17), chance=0.5, **far),
    )


def _on_boards(count):
    """Many small things side by side on two boards: of roles 1 to 4 and of four heights."""
    return tuple(
        {2: cylinder, 6: sphere}.get(i % 8, box)(
            1 + i % 4,
            ((i % count + 0.5) / count - 0.5, 0, i // count / 2),
            (0, 0, 0.055 + 0.02 * (i * 5 % 4)),
            (0.3 / count, 0.28, 0),
            (0.01, 0, 0.045 + 0.02 * (i * 5 % 4)),
            chance=0.8,
            spread=(0.15 / count, 0.1),
        )
        for i in range(2 * count)
    )


# A set of table and chairs is deeper than its table by so much.
_CHAIRS_M = 0.8


# What its top stands on (role 1): a leg below each corner, or one column.
_LEGS = tuple(
    box(1, (0.5 * x, 0.5 * y, 0.5), (-0.06 * x, (-_CHAIRS_M / 2 - 0.06) * y, -0.02), (0, 0, 0.5), (0.03, 0.03, -0.02))
    for x in (-1, 1) for y in (-1, 1)
)  # fmt: skip
_COLUMN = (box(1, (0, 0, 0.5), (0, 0, -0.02), (0, 0, 0.5), (0.07, 0.07, -0.02)),)


def _chair(along, side):
    """A chair (frame role 2, seat and back role 3), its seat under the table's edge.

    along: place along the table as a share of its width; side: 1 or -1.
    """
    back, front = (along, 0.5 * side, 0), -0.4 * side
    return (
        box(3, back, (0, -0.22 * side, 0.45), (0, 0, 0), (0.21, 0.21, 0.025)),
        box(3, back, (0, -0.03 * side, 0.73), (0, 0, 0), (0.19, 0.014, 0.16)),
        *(box(2, back, (0.2 * x, -0.03 * side, 0.45), (0, 0, 0), (0.02, 0.02, 0.45)) for x in (-1, 1)),
        *(box(2, back, (0.19 * x, front, 0.22), (0, 0, 0), (0.018, 0.018, 0.22)) for x in (-1, 1)),
    )  # fmt: skip


def _dining(roles, feet):
    """A table (top role 0) with a chair on either side, two sheets of paper and a mug on it."""
    sheet = {"spread": (0.35, 0.18), "turn": 1.5}
    return Piece(FREE, (0.8, 1.45, 0.7), (2.1, 1.9, 0.78), roles,
        (box(0, (0, 0, 1), (0, 0, -0.02), (0.5, 0.5, 0), (0, -_CHAIRS_M / 2, 0.02)), *feet, *_chair(-0.2, 1), *_chair(0.22, -1),
         *(box(4, (x, 0, 1), (0, 0, 0.002), (0, 0, 0), (0.105, 0.15, 0.002), chance=0.5, **sheet) for x in (-0.2, 0.2)),
         cylinder(5, (0, 0, 1), (0, 0, 0.05), (0, 0, 0), (0.042, 0.042, 0.05), chance=0.7, **sheet)), 1.2)  # fmt: skip


def _handles(height, chance):
    """Three bars (role 2) along the front at a share of the height."""
    return tuple(
        box(2, (x, 0.5, height), (0, 0.01, 0), (0.08, 0, 0), (0, 0.012, 0.009), chance=chance)
        for x in (-0.33, 0, 0.33)
    )


FITTED = {
    "counter": Piece(WALL, (1.2, 0.55, 0.82), (3.4, 0.68, 0.96),
        ("lacquer", "worktop", "metal", "ceramic", "cardboard", "wall_tiles"),
        (*_body(0.1, 0.04), *_handles(0.85, 0.4),
         box(5, (0, -0.5, 1), (0, 0.006, 0.25), (0.5, 0, 0), (0, 0.006, 0.25), chance=0.5),
         box(2, (0.2, 0, 1), (0, 0, 0.003), (0, 0, 0), (0.28, 0.2, 0.003), chance=0.5),
         box(2, (0.2, 0.5, 0.5), (0, -0.01, 0), (0, 0, 0), (0.29, 0.014, 0.28), chance=0.4),
         box(2, (-0.25, 0, 1), (0, 0, 0.002), (0, 0, 0), (0.3, 0.2, 0.002), chance=0.5),
         cylinder(2, (-0.25, -0.38, 1), (0, 0, 0.12), (0, 0, 0), (0.014, 0.014, 0.12), chance=0.5),
         *_kitchenware(3, 4)), 3.0),
    # As people leave them: the wall behind is hardly seen.
    "full_counter": Piece(WALL, (1.0, 0.5, 0.75), (2.6, 0.68, 0.96),
        ("lacquer", "worktop", "metal", "ceramic", "cardboard", "books"),
        (*_body(0.1, 0.04), box(1, (0, -0.5, 1), (0, 0.006, 0.1), (0.5, 0, 0), (0, 0.006, 0.1), chance=0.5),
         *_kitchenware(3, 4, (0.45, 0.12), -0.22), *_kitchenware(3, 5, (0.45, 0.2), -0.1)), 3.0),
    "island": Piece(FREE, (1.0, 0.6, 0.82), (2.3, 1.1, 0.98),
        ("lacquer", "worktop", "metal", "ceramic", "cardboard"),
        (*_body(0.08, 0.04), *_handles(0.85, 0.3), *_kitchenware(3, 4, (0.36, 0.3))), 0.8),
    "stove": Piece(WALL, (0.5, 0.55, 0.82), (0.9, 0.65, 0.94),
        ("appliance", "plastic", "metal", "ceramic", "cardboard"),
        (*_body(0.06, 0.03), box(1, (0, 0.5, 0.45), (0, 0, 0), (0.38, 0, 0.25), (0, 0.012, 0), chance=0.7),
         sphere(2, (0, 0.5, 0.5), (0, 0, 0), (0, 0, 0), (0.18, 0.03, 0.18), chance=0.3),
         box(2, (0, 0.5, 0.8), (0, 0.02, 0), (0.36, 0, 0), (0, 0.012, 0.012), chance=0.6),
         *_kitchenware(3, 4, (0.25, 0.2))), 0.8),
    "fridge": Piece(WALL, (0.54, 0.58, 1.1), (0.9, 0.72, 2.0), ("appliance", "appliance", "metal", "picture", "cardboard"),
        (box(0, (0, 0, 0.5), (0, -0.02, 0), (0.5, 0.5, 0.5), (0, -0.02, 0)),
         box(1, (0, 0.5, 0.31), (0, -0.02, 0), (0.5, 0, 0.3), (0, 0.02, -0.003)),
         box(1, (0, 0.5, 0.81), (0, -0.02, 0), (0.5, 0, 0.19), (0, 0.02, -0.003)),
         *(box(2, (-0.42, 0.5, z), (0, 0.02, 0), (0, 0, 0.1), (0.012, 0.014, 0), chance=0.6) for z in (0.5, 0.74)),
         *(box(3, (x, 0.5, z), (0, 0.002, 0), (0, 0, 0), (0.07, 0.002, 0.09), chance=0.3, spread=(0.1, 0))
           for x, z in ((0.1, 0.8), (0.2, 0.5), (-0.1, 0.45))),
         box(4, (0, 0, 1), (0, 0, 0.1), (0, 0, 0), (0.18, 0.15, 0.1), chance=0.3, turn=0.5)), 1.0),
    "low_cupboard": Piece(WALL, (1.0, 0.35, 0.35), (2.8, 0.55, 1.15), ("lacquer", "worktop", "metal", "books", "ceramic"),
        (*_body(0.04, 0.025), *_handles(0.7, 0.3), *clutter(1, 0, 3, (0.4, 0.2))), 1.4),
    "built_in": Piece(WALL, (0.8, 0.4, 1.9), (3.0, 0.65, 2.7), ("lacquer", "metal"),
        (box(0, (0, 0, 0.5), (0, 0, 0), (0.5, 0.5, 0.5), (0, 0, 0)),
         *(cylinder(1, (x, 0.5, 0.48), (0, 0.015, 0), (0, 0, 0.05), (0.01, 0.01, 0), chance=0.5)
           for x in (-0.27, -0.23, 0.23, 0.27))), 1.2),
    "wall_cabinet": Piece(HUNG, (0.5, 0.3, 0.5), (1.6, 0.38, 0.95), ("lacquer", "metal"),
        (box(0, (0, 0, 0.5), (0, 0, 0), (0.5, 0.5, 0.5), (0, 0, 0)),
         *(box(1, (x, 0.5, 0), (0, 0.01, 0.06), (0.06, 0, 0), (0, 0.012, 0.008), chance=0.4) for x in (-0.25, 0.25))),
        3.0, (1.3, 1.6)),
    "notes": Piece(HUNG, (0.5, 0.02, 0.3), (1.6, 0.03, 0.8), ("picture", "white", "cardboard", "lacquer"),
        tuple(box(i % 4, (x, -0.5, z), (0, 0.006, 0), (0.03, 0, 0.12), (0.05, 0.004, 0.05), chance=0.45, spread=(0.03, 0))
              for i, (x, z) in enumerate((x, z) for x in (-0.4, -0.2, 0, 0.2, 0.4) for z in (0.15, 0.5, 0.85))),
        2.5, (1.0, 1.5)),
    "full_shelf": Piece(HUNG, (0.7, 0.18, 0.45), (1.7, 0.3, 0.7), ("lacquer", "ceramic", "cardboard", "books", "picture"),
        (*(box(0, (0, 0, z), (0, 0, -0.01), (0.5, 0.5, 0), (0, 0, 0.01)) for z in (0, 0.5)), *_on_boards(8)),
        2.0, (1.1, 1.5)),
    "hood": Piece(HUNG, (0.55, 0.35, 0.6), (0.9, 0.5, 0.9), ("metal",),
        (box(0, (0, 0, 0), (0, 0, 0.05), (0.5, 0.5, 0), (0, 0, 0.05)),
         box(0, (0, -0.2, 0.55), (0, 0, 0), (0.2, 0.25, 0.45), (0, 0, 0))), 0.7, (1.5, 1.7)),
    "dining": _dining(("wood", "wood", "wood", "fabric", "white", "ceramic"), _LEGS),
    "canteen": _dining(("lacquer", "metal", "wood", "wood", "picture", "ceramic"), _COLUMN),
}  # fmt: skip
