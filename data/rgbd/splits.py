"""Which rooms of an RGB-D data set are trained on, chosen by, and tested on.

A split is made of rooms: several scans of one room are always in the same one. With tails every
scene that is trained on is cut, the ends of its frames held out; meant for data sets of one room.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Splits:
    """What goes to ``validation`` and to ``test``; the rest is trained on.

    scenes: by name. shares: of all rooms, drawn by the seed. tails: of every other scene's frames,
    at its end, the test's last.
    """

    test_scenes: Sequence[str] = ()
    validation_scenes: Sequence[str] = ()
    test_share: float = 0.0
    validation_share: float = 0.0
    test_tail: float = 0.0
    validation_tail: float = 0.0

    def __post_init__(self):
        for kind in ("share", "tail"):
            pair = [getattr(self, f"{name}_{kind}") for name in ("validation", "test")]
            if min(pair) < 0 or sum(pair) >= 1:
                raise ValueError(
                    f"validation and test {kind}s must be at least 0 and below 1 together, "
                    f"got {pair[0]} and {pair[1]}"
                )

    def of_scenes(self, rooms: Mapping[str, str], seed: int) -> dict[str, str]:
        """Split of every scene; ``rooms``: the room of each.

        Raises:
          ValueError: unknown scenes, a room that would be in two splits, nothing to train on.
        """
        named = {name: "test" for name in self.test_scenes}
        named |= {name: "validation" for name in self.validation_scenes}
        for split in ("test", "validation"):
            unknown = sorted(set(getattr(self, f"{split}_scenes")) - set(rooms))
            if unknown:
                raise ValueError(f"{split} scenes {unknown} are not among {sorted(rooms)}")
        both = sorted(set(self.test_scenes) & set(self.validation_scenes))
        if both:
            raise ValueError(f"scenes {both} cannot be in validation and in test")
        split_of_room = self._drawn(sorted(set(rooms.values())), seed)
        split_of_room |= {rooms[name]: split for name, split in named.items()}
        found = {name: split_of_room.get(room, "train") for name, room in rooms.items()}
        cut = sorted(name for name, split in named.items() if found[name] != split)
        if cut:
            raise ValueError(f"scenes {cut} show a room of which another scan is in another split")
        if "train" not in found.values():
            raise ValueError(
                f"all of {sorted(rooms)} are held out, nothing is left to train on; of a single "
                "room the ends of its frames can be (validation and test tails)"
            )
        return found

    def _drawn(self, rooms: Sequence[str], seed: int) -> dict[str, str]:
        """At least one room for each share that is not 0."""
        order = np.random.default_rng([seed, len(rooms)]).permutation(len(rooms))
        found, first = {}, 0
        for split in ("test", "validation"):
            share = getattr(self, f"{split}_share")
            count = max(round(share * len(rooms)), 1) if share else 0
            found |= {rooms[number]: split for number in order[first : first + count]}
            first += count
        return found

    def of_frames(self) -> list[tuple[str, float, float]]:
        """(split, begin, end) of a scene that is trained on, as shares of its frames."""
        first, last = 1 - self.validation_tail - self.test_tail, 1 - self.test_tail
        parts = [("train", 0.0, first), ("validation", first, last), ("test", last, 1.0)]
        return [part for part in parts if part[0] == "train" or part[2] > part[1]]


ALL_TRAIN = Splits()
