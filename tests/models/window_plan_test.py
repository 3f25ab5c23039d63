"""Which views are taken together: all of them, in windows that can be joined."""

import numpy as np
import pytest

from mvdust3r_jax.models.window_plan import begun_with, by_likeness, common_views, in_order


def circle(views, seed=0):
    """Features of a walk around a table, photographs shuffled, and each one's place on it."""
    place = np.random.default_rng(seed).permutation(views)
    angle = 2 * np.pi * place / views
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32), place


SIZES = pytest.mark.parametrize(("views", "window"), [(2, 3), (4, 3), (10, 3), (10, 8), (100, 12)])


@SIZES
@pytest.mark.parametrize("way", ["order", "likeness"])
def test_windows_cover_all_views_and_overlap(way, views, window):
    """Each view is in one, all are of one size, a third was seen before; both ways are as many."""
    plan = in_order(views, window) if way == "order" else by_likeness(circle(views)[0], window)
    seen = set(plan[0])
    for views_of in plan[1:]:
        assert len(seen & set(views_of)) >= common_views(window)
        assert not set(views_of) <= seen
        seen |= set(views_of)
    assert seen == set(range(views)) and len(plan) == len(in_order(views, window))
    assert {len(set(w)) for w in plan} == {len(w) for w in plan} == {min(views, window)}


def test_likeness_finds_the_walk():
    """Of a shuffled walk, every window is of neighbors, whatever the order."""
    features, place = circle(60)
    for views_of in by_likeness(features, 12):
        steps = np.abs(place[views_of][:, None] - place[views_of])
        assert np.minimum(steps, 60 - steps).max() == 11


@pytest.mark.parametrize("view", [0, 3, 9])
def test_windows_begin_with_the_view_that_is_asked_for(view):
    """It is in the first; every other has something in common with those before it."""
    plans = begun_with(in_order(10, 4), view), by_likeness(circle(10)[0], 4, view)
    assert view in plans[0][0] and plans[1][0][0] == view
    for plan in plans:
        seen = set(plan[0])
        for views_of in plan[1:]:
            assert seen & set(views_of)
            seen |= set(views_of)
        assert seen == set(range(10))


def test_all_at_once_is_one_window():
    """Without a limit there is nothing to join, and two photographs are enough."""
    assert in_order(2, None) == [[0, 1]]


def test_a_window_of_two_is_refused():
    """Its neighbor would have nothing in common with what is new in it."""
    with pytest.raises(ValueError, match="at least 3 views.*got 2"):
        in_order(5, 2)
