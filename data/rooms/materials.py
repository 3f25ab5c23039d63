"""What surfaces are made of: bounds of material classes, their fields those of ``textures.Field``."""

# ruff: noqa: E501
# (A table row reads better in one line than in four.)

from __future__ import annotations

import numpy as np

from data.rooms.textures import MATERIAL_SIZE, Field


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
    # Plain fronts: hardly any pattern but the joints between doors.
    "lacquer": _material((_ANY, (0.0, 0.95), (0.2, 0.97)), (0, 1.0, 0.9), (0, 1.0, 0.35),
        CELL_U=(0.35, 1.2), CELL_V=(0.2, 2.5), GAP=(0, 0.003), TONE=(0, 0.04), NOISE=(0, 0.15),
        NOISE_FREQ=(0.5, 4), SPECKLE=(0, 0.02), GLOSS=(0.1, 0.8)),
    "worktop": _material((_ANY, (0.0, 0.4), (0.06, 0.92)), (0.02, 1.0, 0.6), NOISE=(0.05, 0.6),
        NOISE_FREQ=(3, 40), SPECKLE=(0.01, 0.3), GLOSS=(0.2, 0.8)),
    "appliance": _material((_ANY, (0.0, 0.12), (0.1, 0.97)), NOISE=(0, 0.12), NOISE_FREQ=(0.5, 4),
        SPECKLE=(0, 0.02), GLOSS=(0.3, 1.0)),
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
