"""The tiny world's tables (`benchmarks.tiny_world`): paired differences over seeds and rooms."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from benchmarks.tiny_world_costs import read_costs
from benchmarks.tiny_world_questions import QUESTIONS, Question, Row, plans, read_kept
from mvdust3r_jax.evaluation import tables

HEADINGS = {"nd": "ND m", "cd": "CD m²", "rra15": "RRA@15°", "rta15": "RTA@15°"}
HEADINGS |= {"psnr_db": "PSNR dB", "lpips": "LPIPS"}


def scores(
    row: Row, views: int, number: str, seeds: int, steps: int
) -> Float[np.ndarray, "seeds rooms"] | None:
    """One number of a row by seed and room; None while a seed is not judged."""
    found = [
        read_kept(row.arm, seed, steps).get(f"{row.method} {views}", {}).get(number)
        for seed in range(1, seeds + 1)
    ]
    if any(values is None for values in found):
        return None
    return np.array(found, np.float64)


def interval_over_seeds_and_rooms(
    values: Float[np.ndarray, "seeds rooms"], resamples: int = 2000
) -> tuple[float, float, float]:
    """Mean and its 95 % interval when seeds and rooms are both drawn anew; NaN values left out."""
    rng = np.random.default_rng(0)
    seeds, rooms = values.shape
    means = np.empty(resamples)
    for i in range(resamples):
        drawn = values[np.ix_(rng.integers(seeds, size=seeds), rng.integers(rooms, size=rooms))]
        means[i] = np.nanmean(drawn)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(np.nanmean(values)), float(low), float(high)


def judged_seeds(question: Question, seeds: int, steps: dict[str, int]) -> int:
    """Of how many seeds all rows are judged; 1 if of none, so that what there is can be shown."""
    for count in range(seeds, 1, -1):
        found = [
            scores(row, question.views, question.numbers[0], count, steps[row.arm])
            for row in question.rows
        ]
        if all(values is not None for values in found):
            return count
    return 1


def table(question: Question, seeds: int, steps: dict[str, int]) -> str:
    """A row of each arm: means, and the difference to the first row with its interval.

    Of several seeds, also the difference in each.
    """
    first = question.rows[0]
    lines = [tables.head(("arm", "method", "steps", *(HEADINGS[n] for n in question.numbers)))]
    for row in question.rows:
        cells = [row.arm, row.method, str(steps[row.arm])]
        for number in question.numbers:
            own = scores(row, question.views, number, seeds, steps[row.arm])
            base = scores(first, question.views, number, seeds, steps[first.arm])
            cells.append(_cell(own, base if row != first else None))
        lines.append(tables.row(cells))
    return "\n".join(lines)


def _cell(own: np.ndarray | None, base: np.ndarray | None) -> str:
    if own is None:
        return "not run yet"
    text = f"{np.nanmean(own):.3g}"
    if base is None:
        return text
    mean, low, high = interval_over_seeds_and_rooms(own - base)
    each = ", ".join(f"{x:+.2g}" for x in np.nanmean(own - base, axis=1))
    return f"{text} ({mean:+.2g} [{low:+.2g}, {high:+.2g}]{f'; {each}' if len(own) > 1 else ''})"


def with_tables(page: str, seeds: int, steps: int) -> str:
    """The page with the tables of each question between its markers."""
    known = read_costs()
    for name, question in QUESTIONS.items():
        start, end = f"<!-- tiny_world {name} -->\n", "<!-- end tiny_world -->"
        if start not in page:
            continue
        shown = plans(question, known, steps).items()
        texts = []
        for title, plan in shown:
            count = judged_seeds(question, seeds, plan)
            of_seeds = "seed 1" if count == 1 else f"seeds 1 to {count}"
            texts.append(f"{title}, {of_seeds}:\n\n{table(question, count, plan)}\n")
        content = "\n".join(texts)
        before, _, rest = page.partition(start)
        page = before + start + content + end + rest.partition(end)[2]
    return page
