"""Which frames of a scene make a trajectory: chosen by the overlap of their surfaces.

The published rule ("0.3_0.7"): frames are drawn at random; a frame joins the inputs when its
largest overlap with the frames already taken lies in [lo, hi] and its second largest is not above
lo. So the views hang together like a tree, and no two show the same. A render-only frame is taken
when more than 95 % of its points are covered by the points of the input frames.

``share`` is that of `surfaces`; overlap is its mean over both directions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from data.schema import NO_FRAME, Trajectories
from data.surfaces import Surfaces

# Attempts in a row without a new trajectory after which a scene counts as exhausted.
_PATIENCE = 200
# The least of the counts that a user chooses, and the options of ``data.build`` for them.
_LEAST = {
    "num_inputs": (1, "--inputs"),
    "num_targets": (0, "--targets"),
    "step": (1, "--step"),
    "max_trajectories": (1, "--trajectories"),
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """How trajectories are chosen; the published values are the defaults.

    step: every step-th row and column of a depth image is used (release: 3 for ScanNet, 9 for
    ScanNet++). max_frames: of a longer scene, frames at equal distances are considered.
    radius_per_step_m: neighbors count below this distance times ``step``; it suits depth of about
    640x480, smaller images need more. draws: frames drawn for one trajectory until it is given up.
    """

    lo: float = 0.3
    hi: float = 0.7
    num_inputs: int = 8
    num_targets: int = 2
    step: int = 3
    coverage: float = 0.95
    max_frames: int = 1000
    max_trajectories: int = 1000
    radius_per_step_m: float = 0.015
    draws: int = 1000

    def __post_init__(self):
        if not 0 <= self.lo < self.hi <= 1:
            raise ValueError(f"expected 0 <= lo < hi <= 1, got lo={self.lo}, hi={self.hi}")
        for name, (least, option) in _LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(
                    f"expected {option} of at least {least}, got {name}={getattr(self, name)}"
                )
        if not 0 < self.radius_per_step_m < math.inf:
            raise ValueError(
                f"expected --radius above 0 m, got radius_per_step_m={self.radius_per_step_m}"
            )

    @property
    def radius_m(self) -> float:
        """Below this distance two points are the same piece of surface."""
        return self.radius_per_step_m * self.step


def choose_inputs(
    overlap: Float[np.ndarray, "F F"], rule: Rule, rng: np.random.Generator
) -> list[int] | None:
    """Input frames in the order in which they were taken, or None if too few were found."""
    order = rng.permutation(len(overlap))[: rule.draws]
    taken: list[int] = []
    # The first frame is free; frames drawn too early get another chance while some are found.
    while len(taken) < rule.num_inputs:
        before = len(taken)
        for frame in order:
            if frame not in taken and _joins(overlap[frame, taken], rule):
                taken.append(int(frame))
                if len(taken) == rule.num_inputs:
                    return taken
        if len(taken) == before:
            return None
    return taken


def _joins(overlaps: Float[np.ndarray, " k"], rule: Rule) -> bool:
    """The [lo, hi] rule against the frames already taken."""
    if not len(overlaps):
        return True
    ordered = np.sort(overlaps)
    second_is_low = len(ordered) < 2 or ordered[-2] <= rule.lo
    return bool(rule.lo <= ordered[-1] <= rule.hi and second_is_low)


def choose_targets(
    surfaces: Surfaces,
    share: Float[np.ndarray, "F F"],
    inputs: Sequence[int],
    rule: Rule,
    rng: np.random.Generator,
) -> list[tuple[int, int]]:
    """Up to ``num_targets`` pairs: render-only frame, how many of the first inputs cover it."""
    others = np.setdiff1d(np.arange(len(share)), inputs)
    # The union covers at most the sum of the parts: what this excludes needs no search.
    possible = others[share[others][:, inputs].sum(axis=1) > rule.coverage]
    found: list[tuple[int, int]] = []
    for frame in rng.permutation(possible):
        if len(found) == rule.num_targets:
            break
        need = inputs_needed(surfaces, share, int(frame), inputs, rule.coverage)
        if need is not None:
            found.append((int(frame), need))
    return found


def inputs_needed(
    surfaces: Surfaces,
    share: Float[np.ndarray, "F F"],
    frame: int,
    inputs: Sequence[int],
    coverage: float,
) -> int | None:
    """The smallest number of first inputs that together cover the frame, or None."""
    seen = np.zeros(len(surfaces.points[frame]), bool)
    for count, view in enumerate(inputs, start=1):
        if share[frame, view] > 0:
            seen |= surfaces.covered(frame, view)
        if seen.mean() > coverage:
            return count
    return None


def choose_trajectories(
    surfaces: Surfaces,
    share: Float[np.ndarray, "F F"],
    rule: Rule,
    seed: Sequence[int] | int,
    progress: Callable[[int], None] = lambda done: None,
) -> Trajectories:
    """Up to ``max_trajectories`` distinct trajectories; fewer where the scene has no more."""
    rng = np.random.default_rng(seed)
    overlap = (share + share.T) / 2
    inputs, targets, needs, known, failures = [], [], [], set(), 0
    while len(inputs) < rule.max_trajectories and failures < _PATIENCE:
        failures += 1
        views = choose_inputs(overlap, rule, rng)
        if views is None or tuple(views) in known:
            continue
        chosen = choose_targets(surfaces, share, views, rule, rng)
        if len(chosen) < rule.num_targets:
            continue
        known.add(tuple(views))
        inputs.append(views)
        targets.append([frame for frame, _ in chosen])
        needs.append([need for _, need in chosen])
        failures = 0
        progress(len(inputs))
    return Trajectories(
        _table(inputs, rule.num_inputs),
        _table(targets, rule.num_targets),
        _table(needs, rule.num_targets),
    )


def _table(rows: list[list[int]], width: int) -> Int[np.ndarray, "n k"]:
    table = np.full((len(rows), width), NO_FRAME, np.int32)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table
