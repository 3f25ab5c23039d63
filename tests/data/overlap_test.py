"""The choice of trajectories by overlap: against brute force, and the rule's own words."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from data import surfaces as surfaces_module
from data.overlap import Rule, choose_inputs, choose_targets, choose_trajectories, inputs_needed
from data.surfaces import Surfaces, world_points
from tests.posed_folders import box_scene

RULE = Rule(num_inputs=4, num_targets=1, step=2, radius_per_step_m=0.1, max_trajectories=20)


@pytest.fixture(scope="module")
def surfaces():
    scene = box_scene(num_views=16)
    points = [
        world_points(depth, scene.intrinsics, pose, RULE.step)
        for depth, pose in zip(scene.depth_m, scene.poses, strict=True)
    ]
    return Surfaces(points, RULE.radius_m)


class BruteForce(Surfaces):
    """The definition: every distance."""

    def covered(self, a, b):
        return cdist(self.points[a], self.points[b]).min(axis=1) < self.radius_m


@pytest.mark.parametrize("max_cells", [surfaces_module._MAX_CELLS, 100])
def test_choice_is_that_of_brute_force(surfaces, monkeypatch, max_cells):
    """Grids and trees, or trees alone where a grid would be too large, change no covered point and
    no chosen view."""
    monkeypatch.setattr(surfaces_module, "_MAX_CELLS", max_cells)
    fast, slow = (
        kind(surfaces.points[:8], RULE.radius_m, workers=1) for kind in (Surfaces, BruteForce)
    )
    for a, b in np.ndindex(8, 8):
        np.testing.assert_array_equal(fast.covered(a, b), slow.covered(a, b))
    share = fast.shares()
    np.testing.assert_array_equal(share, slow.shares())
    rule = dataclasses.replace(RULE, num_inputs=3, coverage=0.5)
    mine, theirs = (choose_trajectories(s, share, rule, 0) for s in (fast, slow))
    assert len(mine) > 5
    for name in ("inputs", "targets", "needs"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))


def test_near_points_are_found_at_any_offset_from_the_cells():
    """Random points whose distances are about the radius, cells crossed in all directions."""
    rng = np.random.default_rng(0)
    # Multiples of the radius and of a third of it, exactly and nearly, meet the cells' borders.
    lattice = rng.integers(-9, 9, (600, 3)) / 3 + rng.choice([0, 1e-9, -1e-9], (600, 3))
    clouds = [rng.uniform(-3, 3, (600, 3)), lattice, rng.uniform(-3, 3, (300, 3)), lattice[:50]]
    fast, slow = (kind(clouds, 0.999) for kind in (Surfaces, BruteForce))
    for a, b in np.ndindex(4, 4):
        assert 0.05 < slow.covered(a, b).mean()
        np.testing.assert_array_equal(fast.covered(a, b), slow.covered(a, b))


def test_every_input_overlaps_one_earlier_input_in_range_and_the_others_at_most_lo(surfaces):
    """The [lo, hi] rule holds for every frame at the moment it joins."""
    share = surfaces.shares()
    overlap = (share + share.T) / 2
    rng = np.random.default_rng(0)
    chosen = [choose_inputs(overlap, RULE, rng) for _ in range(20)]
    assert sum(views is not None for views in chosen) > 5
    for views in filter(None, chosen):
        assert len(set(views)) == RULE.num_inputs
        for count in range(1, len(views)):
            ordered = np.sort(overlap[views[count], views[:count]])[::-1]
            assert RULE.lo <= ordered[0] <= RULE.hi
            assert len(ordered) == 1 or ordered[1] <= RULE.lo


def test_overlap_is_the_mean_of_both_directions():
    """A view that shows little beside one that holds all of it: neither share alone would do."""
    share = np.array([[1.0, 0.9], [0.2, 1.0]])
    unseen = Surfaces([np.zeros((1, 3))] * 2, 0.1)
    chosen = choose_trajectories(unseen, share, Rule(num_inputs=2, num_targets=0), 0)
    assert sorted(map(tuple, chosen.inputs)) == [(0, 1), (1, 0)]


def test_no_inputs_where_no_pair_overlaps():
    """A scene of unrelated frames gives None, not a short trajectory."""
    assert choose_inputs(np.eye(6), RULE, np.random.default_rng(0)) is None


def test_targets_are_covered_by_the_inputs_they_need_and_by_no_fewer(surfaces):
    """``needs`` is the smallest prefix of the inputs whose points cover the target."""
    share = surfaces.shares()
    inputs = [0, 3, 1, 5, 2]
    rule = Rule(num_inputs=5, num_targets=3, step=2, radius_per_step_m=0.1, coverage=0.6)
    targets = choose_targets(surfaces, share, inputs, rule, np.random.default_rng(0))
    assert targets
    for frame, need in targets:
        assert frame not in inputs
        seen = [surfaces.covered(frame, view) for view in inputs]
        assert np.any(seen[:need], axis=0).mean() > rule.coverage
        assert need == 1 or np.any(seen[: need - 1], axis=0).mean() <= rule.coverage


def test_uncovered_frame_needs_no_number_of_inputs(surfaces):
    """A frame that looks elsewhere is never a target."""
    assert inputs_needed(surfaces, surfaces.shares(), 9, [0, 1], 0.95) is None


def test_choice_follows_from_the_seed(surfaces):
    """The same seed gives the same tables, another seed others; no trajectory twice."""
    rule = Rule(
        num_inputs=3,
        num_targets=1,
        step=2,
        radius_per_step_m=0.1,
        coverage=0.5,
        max_trajectories=10,
    )
    share = surfaces.shares()
    first, again, other = (choose_trajectories(surfaces, share, rule, s) for s in (1, 1, 2))
    assert len(first) == 10
    assert len({tuple(row) for row in first.inputs}) == 10
    np.testing.assert_array_equal(first.inputs, again.inputs)
    np.testing.assert_array_equal(first.targets, again.targets)
    assert not np.array_equal(first.inputs, other.inputs)


def test_impossible_rules_are_refused():
    """lo must lie below hi."""
    with pytest.raises(ValueError, match=r"lo=0\.7, hi=0\.3"):
        Rule(lo=0.7, hi=0.3)


@pytest.mark.parametrize(
    ("field", "value", "option"),
    [
        ("num_inputs", 0, "--inputs of at least 1"),
        ("num_targets", -1, "--targets of at least 0"),
        ("step", 0, "--step of at least 1"),
        ("max_trajectories", 0, "--trajectories of at least 1"),
        ("radius_per_step_m", 0.0, "--radius above 0"),
        ("radius_per_step_m", -0.1, "--radius above 0"),
        ("radius_per_step_m", np.nan, "--radius above 0"),
    ],
)
def test_rules_that_no_trajectory_can_follow_name_the_option(field, value, option):
    """With what came."""
    with pytest.raises(ValueError, match=f"expected {option}.*got {field}={value}$"):
        Rule(**{field: value})
