"""What rooms are drawn from, as a config or a JSON file may change it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Options:
    """What rooms are drawn from. Sizes in meters; probabilities in [0, 1].

    multi_room: chance of two or three rooms. dark: factor on all light. density: pieces of
    furniture per square meter (bounds). fov_deg: horizontal field of view (bounds). hand_held:
    chance of a camera in a hand, tilted, rolled and lowered, instead of level at eye height.
    fitted: chance of rooms with fitted furniture (counters, built-in cupboards, wall cabinets) and
    tables with chairs.
    """

    room_min: float = 3.0
    room_max: float = 8.0
    multi_room: float = 0.3
    density: tuple[float, float] = (0.35, 0.75)
    dark: float = 1.0
    fov_deg: tuple[float, float] = (50.0, 80.0)
    hand_held: float = 0.0
    fitted: float = 0.0


# Least and greatest value of each; in smaller rooms nobody finds a place to stand.
_RANGES = {
    "room_min": (2.0, 20.0),
    "room_max": (2.0, 20.0),
    "multi_room": (0.0, 1.0),
    "density": (0.0, 10.0),
    "dark": (0.0, 10.0),
    "fov_deg": (5.0, 150.0),
    "hand_held": (0.0, 1.0),
    "fitted": (0.0, 1.0),
}


def options_from(changes: Mapping[str, Any] | None) -> Options:
    """`Options` with some fields changed, as a config or a JSON file gives them.

    Raises:
      ValueError: a name that is no field, a value of another type or out of range, or bounds that
        do not rise.
    """
    changes = {k: tuple(v) if isinstance(v, list) else v for k, v in (changes or {}).items()}
    known = {field.name: field.default for field in dataclasses.fields(Options)}
    for name, value in changes.items():
        if name not in known:
            raise ValueError(f"options of rooms are {sorted(known)}, got {name!r}")
        pair = isinstance(known[name], tuple)
        numbers = value if pair and isinstance(value, tuple) else (value,)
        low, high = _RANGES[name]
        if (
            len(numbers) != 1 + pair
            or not all(isinstance(n, int | float) and low <= n <= high for n in numbers)
            or list(numbers) != sorted(numbers)
        ):
            wanted = "two rising numbers" if pair else "a number"
            raise ValueError(
                f"the rooms' option {name} must be {wanted} in [{low:g}, {high:g}], got {value!r}"
            )
    options = Options(**changes)
    if options.room_min > options.room_max:
        raise ValueError(
            f"the rooms' option room_min must be at most room_max, got {options.room_min:g} and "
            f"{options.room_max:g}"
        )
    return options
