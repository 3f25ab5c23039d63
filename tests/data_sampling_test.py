import numpy as np
import pytest

from data.sampling import (
    Rule,
    Surfaces,
    choose_inputs,
    choose_targets,
    choose_trajectories,
    inputs_needed,
    world_points,
)
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


def test_share_is_the_brute_force_share_of_points_with_a_near_neighbour(surfaces):
    """KD-tree and box pre-selection change nothing."""
    share = surfaces.shares()
    for a, b in ((0, 1), (1, 0), (2, 5), (3, 12)):
        pairs = np.linalg.norm(surfaces.points[a][:, None] - surfaces.points[b][None], axis=-1)
        expected = (pairs.min(axis=1) < RULE.radius_m).mean()
        np.testing.assert_allclose(share[a, b], expected, atol=1e-6)
    np.testing.assert_array_equal(np.diag(share), 1)


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
