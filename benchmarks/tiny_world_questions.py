"""What the tiny world is asked: rows that are compared, steps of each arm, and what was scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import RESULTS

KEPT = RESULTS / "tiny_world"
# Steps are judged at multiples of this, at which a checkpoint may be.
ROUND = 500


class Row(NamedTuple):
    """What is compared: an arm and the evaluation method that reads it."""

    arm: str
    method: str


class Question(NamedTuple):
    """A finding of the paper: rows on the same rooms; all are compared with the first one."""

    text: str
    views: int
    targets: int
    numbers: tuple[str, ...]
    rows: tuple[Row, ...]
    # Whether all arms go on to twice the steps, which shows whether differences grow or shrink.
    goes_on: bool = False

    @property
    def arms(self) -> list[str]:
        """Each once, in order."""
        return list(dict.fromkeys(row.arm for row in self.rows))


QUESTIONS = {
    "pairs": Question(
        "Four views: pairs and global alignment against one pass",
        4, 0, ("nd", "cd", "rra15", "rta15"),
        (Row("pairs", "pairwise"), Row("four_views", "mvd"), Row("four_views", "mvd_middle")),
        goes_on=True,
    ),
    "later": Question(
        "Four views, begun from pairs that were trained three times as long",
        4, 0, ("nd", "cd", "rra15", "rta15"),
        (
            Row("pairs_later", "pairwise"), Row("four_views_later", "mvd"),
            Row("four_views_later", "mvd_middle"),
        ),
    ),
    "paths": Question(
        "Twelve views: one path, four that never meet, four with cross-reference blocks",
        12, 0, ("nd", "cd", "rra15", "rta15"),
        (
            Row("one_path", "mvd"), Row("one_path", "mvd_middle"), Row("one_path", "mvd_auto"),
            Row("four_paths_apart", "mvd"), Row("four_paths", "mvdp"),
            Row("four_paths", "mvdp_auto"),
        ),
    ),
    "gaussians": Question(
        "Eight views: new views from points as splats of one size against trained Gaussians",
        8, 2, ("nd", "psnr_db", "lpips"),
        (Row("gaussians", "points"), Row("gaussians", "mvd")),
    ),
}  # fmt: skip


def steps_in_equal_time(question: Question, costs: dict[str, float], steps: int) -> dict[str, int]:
    """Steps of each arm in the time that the cheapest one needs for ``steps``."""
    cheapest = min(costs[arm] for arm in question.arms)
    exact = {arm: steps * cheapest / costs[arm] for arm in question.arms}
    return {arm: max(ROUND, round(n / ROUND) * ROUND) for arm, n in exact.items()}


def plans(question: Question, costs: dict[str, float], steps: int) -> dict[str, dict[str, int]]:
    """What each table of a question is called, and the steps of every arm in it."""
    found = {"Equally many steps": dict.fromkeys(question.arms, steps)}
    in_equal_time = steps_in_equal_time(question, costs, steps)
    if in_equal_time not in found.values():
        found["Equal time"] = in_equal_time
    if question.goes_on:
        found["Twice the steps"] = dict.fromkeys(question.arms, 2 * steps)
    return found


def kept_file(arm: str, seed: int, steps: int) -> Path:
    """What an arm scored, by ``method views``."""
    return KEPT / f"{arm}_{seed}_{steps}.json"


def read_kept(arm: str, seed: int, steps: int) -> dict[str, dict[str, list]]:
    """``method views`` -> number -> one value a room, None where it has none; {} if not judged."""
    path = kept_file(arm, seed, steps)
    return json.loads(path.read_text()) if path.exists() else {}
