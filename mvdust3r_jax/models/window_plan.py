"""Which photographs the network is given together, where there are too many for one pass.

Every window but the first has views in common with earlier ones, by which it is joined. In a
video or a walk, neighbors see the same things. Where the order says nothing, a first pass with the
encoder alone tells it: photographs whose tokens are alike in the mean are mostly of one place.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mvdust3r_jax.types import AnyArray

# Added to lengths that are divided by.
_TINY = 1e-12
# Of a window's views, the share that earlier ones have as well.
OVERLAP_SHARE = 1 / 3

Plan = list[list[int]]


def common_views(window: int) -> int:
    """How many of a window's views earlier ones have at least.

    Raises:
      ValueError: a window of fewer than 3 views could not be joined.
    """
    if window < 3:
        raise ValueError(f"a window has at least 3 views, of which one is in common: got {window}")
    return max(1, round(OVERLAP_SHARE * window))


def in_order(views: int, window: int | None) -> Plan:
    """Windows that follow each other, neighbors with `common_views` or more in common.

    window: views of each, None for all in one.
    """
    step = 0 if window is None else window - common_views(window)
    if window is None or views <= window:
        return [list(range(views))]
    starts = [*range(0, views - window, step), views - window]
    return [list(range(start, start + window)) for start in starts]


def begun_with(plan: Plan, view: int) -> Plan:
    """The windows of `in_order`, to both sides of one that has the view, as they follow it."""
    first = next(number for number, window in enumerate(plan) if view in window)
    return plan[first:] + plan[:first][::-1]


def likeness(features: Float[AnyArray, "*batch V D"]) -> Float[AnyArray, "*batch V V"]:
    """How alike views are, -1 to 1: cosines between their features' directions from the mean."""
    centered = features - features.mean(axis=-2, keepdims=True)
    length = (centered**2).sum(axis=-1, keepdims=True) ** 0.5
    directions = centered / (length + _TINY)
    return directions @ directions.swapaxes(-1, -2)


def by_likeness(features: Float[np.ndarray, "V D"], window: int, begin: int | None = None) -> Plan:
    """Windows that grow from the view that is most like others; as many as `in_order` has.

    Each takes the view that is most like one that was taken before, those that are most like it,
    and `common_views` or more of the earlier ones, those that are most like the new ones.

    features: of each view; only their directions from the mean of all count. begin: another view
    to grow from, which is the first one of the first window unless one window holds all views.
    """
    views, common = len(features), common_views(window)
    if views <= window:
        return [list(range(views))]
    alike = likeness(features)
    np.fill_diagonal(alike, np.inf)  # a view is most like itself
    nearest = np.sort(alike, axis=1)[:, -window:-1]
    seed = nearest.mean(axis=1).argmax() if begin is None else begin
    plan = [_most(alike[seed], range(views), window)]
    taken = set(plan[0])
    while len(taken) < views:
        left = [view for view in range(views) if view not in taken]
        earlier = sorted(taken)
        seed = left[alike[np.ix_(left, earlier)].max(axis=1).argmax()]
        new = _most(alike[seed], left, window - common)
        joining = _most(alike[new].max(axis=0), earlier, window - len(new))
        plan.append(joining + new)
        taken.update(new)
    return plan


def _most(scores: Float[np.ndarray, " V"], among: range | list[int], count: int) -> list[int]:
    """The views with the highest scores, highest first."""
    return sorted(among, key=lambda view: -scores[view])[:count]
