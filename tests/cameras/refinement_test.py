"""Cameras refined on tracks: perturbed ones come back, good ones and doubtful ones stay."""

import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mvdust3r_jax.cameras import feature_tracks, features, refinement
from mvdust3r_jax.cameras.adjustment import Adjusted, adjust_from_afar
from mvdust3r_jax.cameras.feature_tracks import Tracks
from mvdust3r_jax.cameras.features import Features, Matches

FOCAL_PX, VIEWS = 300.0, 5


def world(points: int = 150, noise_px: float = 0.2):
    """True cameras on an arc, points before them, and their noisy pixels in all views."""
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (VIEWS, 1, 1))
    angles = np.stack([0 * np.arange(VIEWS), 0.08 * np.arange(VIEWS), 0 * np.arange(VIEWS)], -1)
    poses[:, :3, :3] = Rotation.from_rotvec(angles).as_matrix()
    poses[:, :3, 3] = rng.uniform(-0.5, 0.5, (VIEWS, 3))
    xyz = rng.uniform([-2, -1.5, 3], [3, 1.5, 6], (points, 3))
    track, view = np.divmod(np.arange(points * VIEWS), VIEWS)
    tracks = Tracks(track, view, np.zeros((points * VIEWS, 2)))
    seen = feature_tracks.in_cameras(poses, xyz, tracks)
    pixel_px = FOCAL_PX * seen[:, :2] / seen[:, 2:]
    return (
        poses,
        xyz,
        tracks._replace(pixel_px=pixel_px + noise_px * rng.normal(size=(len(view), 2))),
    )


def perturbed(poses, xyz, focal_px=FOCAL_PX) -> Adjusted:
    """Cameras that are off by three degrees and 0.2, points by 0.3 (a view's frame is kept)."""
    rng, moved = np.random.default_rng(1), poses.copy()
    turns = Rotation.from_rotvec(np.deg2rad(3) * rng.normal(size=(VIEWS, 3))).as_matrix()
    moved[:, :3, :3] = turns @ poses[:, :3, :3]
    moved[:, :3, 3] += 0.2 * rng.normal(size=(VIEWS, 3))
    return Adjusted(moved, focal_px, xyz + 0.3 * rng.normal(size=xyz.shape))


def rotation_deg(poses, truth) -> float:
    """The largest error of a view's rotation against the first one's."""
    relative = [np.linalg.inv(p[0]) @ p for p in (poses, truth)]
    turn = relative[0][:, :3, :3].swapaxes(1, 2) @ relative[1][:, :3, :3]
    return float(np.rad2deg(Rotation.from_matrix(turn).magnitude().max()))


def test_perturbed_cameras_come_back():
    """To a tenth of their error, with what was held back as witness."""
    poses, xyz, tracks = world()
    start = perturbed(poses, xyz)
    found = refinement.refine_cameras(start, tracks, free_focal=False)
    assert found.refined.all() and found.focal_factor == 1
    assert found.error_px[0] > 3 and found.error_px[1] < 0.3
    assert rotation_deg(found.world_from_cam, poses) < 0.1 * rotation_deg(start[0], poses)


def test_a_wrong_focal_length_is_corrected():
    """By one factor, to a hundredth."""
    poses, xyz, tracks = world()
    start = perturbed(poses, xyz, 1.1 * FOCAL_PX)
    found = refinement.refine_cameras(start, tracks, free_focal=True)
    assert found.focal_factor == pytest.approx(1 / 1.1, rel=0.01)


def test_good_cameras_stay():
    """True cameras are returned to the bit, and the reason."""
    poses, xyz, tracks = world()
    found = refinement.refine_cameras(Adjusted(poses, FOCAL_PX, xyz), tracks, free_focal=True)
    np.testing.assert_array_equal(found.world_from_cam, poses)
    assert not found.refined.any() and "hardly better" in found.why


def test_without_enough_tracks_nothing_moves():
    """Fewer than a view needs: unchanged, and the reason; none at all as well."""
    poses, xyz, tracks = world()
    few = tracks.take(tracks.track < refinement.MIN_OBSERVATIONS - 1)
    for given in (few, tracks.take(tracks.track < 0)):
        start = perturbed(poses, xyz)
        found = refinement.refine_cameras(start, given, free_focal=False)
        np.testing.assert_array_equal(found.world_from_cam, start.world_from_cam)
        assert not found.refined.any() and found.error_px is None and "fewer than two" in found.why


def test_wrong_matches_move_nothing():
    """Tracks whose pixels mean nothing are refused."""
    poses, xyz, tracks = world()
    pixel_px = np.random.default_rng(2).uniform(-150, 150, tracks.pixel_px.shape)
    found = refinement.refine_cameras(
        perturbed(poses, xyz), tracks._replace(pixel_px=pixel_px), free_focal=False
    )
    assert not found.refined.any()


def test_cameras_back_to_back_move_nothing():
    """Every point is behind one of the two: no observation fits, and there is nothing to adjust."""
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, :3, :3] = np.diag([-1.0, 1.0, -1.0])
    track, view = np.divmod(np.arange(120), 2)
    rng = np.random.default_rng(0)
    tracks = Tracks(track, view, rng.uniform(-50, 50, (120, 2)))
    start = Adjusted(poses, FOCAL_PX, rng.uniform([-1, -1, 3], [1, 1, 5], (60, 3)))
    moved = adjust_from_afar(start, tracks, anchor=0)
    np.testing.assert_array_equal(moved.world_from_cam, poses)
    assert not refinement.refine_cameras(start, tracks, free_focal=False).refined.any()


def test_depths_against_the_prediction_move_nothing():
    """Where near and far are exchanged beside the guesses, one of both is wrong: unchanged."""
    poses, xyz, tracks = world()
    start = perturbed(poses, xyz)
    exchanged = xyz * (9 - xyz[:, 2:]) / xyz[:, 2:]
    found = refinement.refine_cameras(start._replace(points=exchanged), tracks, free_focal=False)
    assert not found.refined.any() and "depths" in found.why


def test_a_view_with_few_tracks_is_left_out():
    """The others are refined without it."""
    poses, xyz, tracks = world()
    given = tracks.take((tracks.view != 3) | (tracks.track < 10))
    found = refinement.refine_cameras(perturbed(poses, xyz), given, free_focal=False)
    assert found.refined.tolist() == [True, True, True, False, True]
    others = np.arange(VIEWS) != 3
    assert rotation_deg(found.world_from_cam[others], poses[others]) < 0.3


def test_matches_become_tracks():
    """Joined over views; a second orientation of a feature is the same point, torn tracks go."""
    pixels = [np.array(p, float) for p in ([[0, 0], [5, 5]], [[1, 1], [1.5, 1], [9, 9]], [[2, 2]])]
    matches = [
        Matches((0, 1), np.array([[0, 0], [1, 2]])),
        Matches((1, 2), np.array([[1, 0]])),
        Matches((0, 2), np.array([[0, 0]])),
    ]
    found = feature_tracks.join_matches(matches, pixels)
    assert (found.track.tolist(), found.view.tolist()) == ([0, 0, 0, 1, 1], [0, 1, 2, 0, 1])
    torn = [*matches, Matches((1, 2), np.array([[2, 0]]))]  # (1, 1) and (9, 9) of view 1
    assert feature_tracks.join_matches(torn, pixels).count == 0


def test_mutual_matches_are_unique_and_plain():
    """Equal descriptors match; one that has two candidates alike does not."""
    eye = np.eye(4, dtype=np.float32)
    first = Features(np.zeros((3, 2)), eye[[0, 1, 2]])
    second = Features(np.zeros((4, 2)), eye[[2, 0, 1, 1]])
    assert features.mutual_matches(first, second).tolist() == [[0, 1], [2, 0]]


def test_without_pycolmap_the_extra_is_named(monkeypatch):
    """One line."""
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(ImportError, match=r"^.*pip install 'mvdust3r-jax\[refine\]'$"):
        features.import_pycolmap()
