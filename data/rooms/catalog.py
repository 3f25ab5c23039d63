"""All furniture classes as arrays, from which rooms are drawn under jit."""

from __future__ import annotations

import dataclasses

import numpy as np

from data.rooms.fitted import FITTED
from data.rooms.furniture import FURNITURE
from data.rooms.materials import class_index

MAX_PARTS = 20
PIECES = {**FURNITURE, **FITTED}
MAX_ROLES = max(len(piece.roles) for piece in PIECES.values())


@dataclasses.dataclass(frozen=True)
class PieceTables:
    """The catalog as arrays: F classes, ``MAX_PARTS`` parts each."""

    place: np.ndarray  # [F]
    fitted: np.ndarray  # [F] bool: drawn only where options ask for it
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
        fitted=np.array([name in FITTED for name in PIECES]),
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
