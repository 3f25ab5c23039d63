"""Which points are written, and how many are left out for which reason."""

import dataclasses

import numpy as np
import pytest

from mvdust3r_jax import export
from mvdust3r_jax.export import (
    point_filter,
)


def test_filter_steps(scene):
    """Threshold, share and budget each keep what they say, and never leave the scene's mask."""
    scene = dataclasses.replace(scene, masks=scene.masks.copy())
    scene.masks[0] = False
    keep = point_filter.keep(scene, export.PointFilter(min_confidence=5, drop_share=0)).mask
    np.testing.assert_array_equal(keep, scene.masks & (scene.confidence >= 5))
    keep = point_filter.keep(scene, export.PointFilter(drop_share=0.25)).mask
    assert abs(keep.sum() - 0.75 * scene.masks.sum()) <= 1
    assert scene.confidence[scene.masks & ~keep].max() <= scene.confidence[keep].min()
    keep = point_filter.keep(scene, export.PointFilter(max_points=100)).mask
    assert keep.sum() == 100 and not keep[0].any()


def test_far_points_are_left_out(scene):
    """Those beyond so many times the median distance from their own camera, and no others."""
    scene = dataclasses.replace(scene, points=scene.points.copy())
    center = scene.world_from_cam[1, :3, 3]
    scene.points[1, :4] = center + 10 * (scene.points[1, :4] - center)  # the sky of view 1
    keep = point_filter.keep(scene, export.PointFilter(drop_share=0, far=3.0)).mask
    assert not keep[1, :4].any() and keep[1, 4:].all() and keep[[0, 2]].all()


def test_what_is_dropped_is_counted_by_reason(scene):
    """Every pixel is kept or counted once, under the first step that takes it away."""
    scene = dataclasses.replace(scene, masks=scene.masks.copy(), points=scene.points.copy())
    scene.masks[0] = False
    scene.points[1, 3, 4] = np.inf
    kept = export.keep(scene, export.PointFilter(0.25, 5.0, True, max_points=100))
    assert kept.count == 100 and kept.count + sum(kept.dropped.values()) == kept.mask.size
    assert kept.dropped["outside of the scene"] == scene.masks[0].size
    assert kept.dropped["not finite"] == 1
    assert "100 of 4,608 points kept (dropped: 1,536 outside" in str(kept)


def test_filter_never_keeps_infinite_points(scene):
    """A point that is not finite is never written, whatever its confidence."""
    broken = dataclasses.replace(scene, points=scene.points.copy())
    broken.points[1, 3, 4, 0] = np.nan
    keep = point_filter.keep(broken, point_filter.PointFilter(drop_share=0.0)).mask
    assert not keep[1, 3, 4] and keep.sum() == keep.size - 1


@pytest.mark.parametrize(
    "bad",
    [{"drop_share": 1.0}, {"max_points": 0}, {"min_confidence": np.nan}, {"far": -1.0}],
)
def test_filter_refuses_nonsense(bad):
    """Values outside their range are errors that quote them."""
    with pytest.raises(ValueError, match=str(next(iter(bad.values())))):
        export.PointFilter(**bad)


def test_contradicted_points_go_and_exact_ones_stay(scene):
    """Nothing of an exact scene is contradicted; floaters that others see through are."""
    keep = scene.masks
    assert not point_filter.contradicted(scene, keep).any()
    floating = dataclasses.replace(
        scene, points=scene.points.copy(), confidence=np.full_like(scene.confidence, 5)
    )
    camera = scene.world_from_cam[1, :3, 3]
    patch = np.s_[1, 12:20, 20:28]
    floating.points[patch] = camera + 0.6 * (scene.points[patch] - camera)
    floating.confidence[patch] = 2
    bad = point_filter.contradicted(floating, keep)
    assert bad[patch].all() and bad.sum() == 64
    floating.confidence[patch] = 9  # the more confident side is believed
    assert not point_filter.contradicted(floating, keep)[patch].any()
