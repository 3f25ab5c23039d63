"""Refining a scene: from photographs to moved cameras, and points that follow them."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mvdust3r_jax.cameras.feature_tracks import Tracks, in_cameras
from mvdust3r_jax.cameras.features import Matches
from mvdust3r_jax.cameras.refinement import RefinedCameras
from mvdust3r_jax.reconstruction import refine as refine_module
from mvdust3r_jax.reconstruction.moved_views import with_refined_cameras
from mvdust3r_jax.reconstruction.refine import find_tracks, refine, refine_on
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.storage.scene_arrays import SCENE_FILE
from mvdust3r_jax.types import Gaussians

ROOM = Path(__file__).parents[2] / "examples" / "room"
VIEWS, SCALE = 4, 2  # the photographs are twice as large as the network's images


def room() -> Scene:
    """The example's first views with their true cameras and points."""
    truth = np.load(ROOM / "truth.npz")
    images, depth, k, poses = (
        truth[name][:VIEWS].astype(np.float64)
        for name in ("images", "depth_m", "intrinsics", "world_from_cam")
    )
    world_from_cam = np.linalg.inv(poses[0]) @ poses
    v, u = np.mgrid[: depth.shape[1], : depth.shape[2]]
    rays = np.einsum("vij,hwj->vhwi", np.linalg.inv(k), np.stack([u, v, np.ones_like(u)], -1))
    points = np.einsum("vij,vhwj->vhwi", world_from_cam[:, :3, :3], rays * depth[..., None])
    original = np.diag([SCALE, SCALE, 1.0]) @ k
    original[:, :2, 2] += (SCALE - 1) / 2
    rng = np.random.default_rng(0)
    shape = depth.shape
    return Scene(
        images_01=(images / 255).astype(np.float32),
        points=(points + world_from_cam[:, None, None, :3, 3]).astype(np.float32),
        confidence=np.ones(shape, np.float32),
        gaussians=Gaussians(
            colors=rng.uniform(size=(*shape, 3)).astype(np.float32),
            opacities=np.full(shape, 0.5, np.float32),
            scales=np.full((*shape, 3), 0.01, np.float32),
            rotations=np.tile(np.float32([1, 0, 0, 0]), (*shape, 1)),
        ),
        world_from_cam=world_from_cam.astype(np.float32),
        pose_ok=np.ones(VIEWS, bool),
        intrinsics=k.astype(np.float32),
        original_intrinsics=original.astype(np.float32),
        original_sizes=np.tile([SCALE * shape[1], SCALE * shape[2]], (VIEWS, 1)),
        names=[f"{i:02d}.jpg" for i in range(VIEWS)],
        masks=depth > 0,
    )


def photographs() -> list[Path]:
    return sorted((ROOM / "photographs").iterdir())[:VIEWS]


def displaced(scene: Scene, degrees: float, share: float, depth: float = 0.0) -> Scene:
    """Every view but the reference with its points turned, shifted, and at another depth."""
    rng, poses = np.random.default_rng(3), scene.world_from_cam.astype(np.float64)
    moved, points = poses.copy(), scene.points.astype(np.float64)
    for view in range(1, VIEWS):
        turn = Rotation.from_rotvec(np.deg2rad(degrees) * rng.normal(size=3)).as_matrix()
        moved[view, :3, :3] = turn @ poses[view, :3, :3]
        moved[view, :3, 3] += share * rng.normal(size=3)
        own = (points[view] - poses[view, :3, 3]) @ poses[view, :3, :3]
        factor = np.exp(depth * rng.normal())
        points[view] = factor * own @ moved[view, :3, :3].T + moved[view, :3, 3]
    return dataclasses.replace(
        scene, points=points.astype(np.float32), world_from_cam=moved.astype(np.float32)
    )


def test_points_follow_cameras_that_come_back():
    """Displaced views return to the truth, at the network's scale, whatever that of the result."""
    truth = room()
    given = displaced(truth, 5, 0.3, depth=0.2)
    row, column = (x.ravel() for x in np.mgrid[2:60:4, 2:60:4])
    count = len(row)
    track, view = np.divmod(np.arange(count * VIEWS), VIEWS)
    # Tracks whose points are one view's own: of each view its depths are told as they are.
    points = np.concatenate([truth.points[v, row, column] for v in range(VIEWS)])
    tracks = Tracks(
        np.arange(count * VIEWS), np.repeat(np.arange(VIEWS), count), np.zeros((count * VIEWS, 2))
    )
    seen = in_cameras(truth.world_from_cam, points.astype(np.float64), tracks)
    focal_px = float(truth.original_intrinsics[0, 0, 0])
    tracks = tracks._replace(pixel_px=focal_px * seen[:, :2] / seen[:, 2:])
    turn = Rotation.from_rotvec([0.3, -0.2, 0.1]).as_matrix()
    poses = truth.world_from_cam.astype(np.float64)
    poses[:, :3, 3] *= 2.5
    poses[:, :3] = turn @ poses[:, :3]
    found = RefinedCameras(
        poses, 1.0, np.ones(VIEWS, bool), tracks, 2.5 * points @ turn.T, (3.0, 0.2), "refined"
    )
    moved = with_refined_cameras(given, found, focal_px)
    scale = np.median(moved.points[0, ..., 2] / truth.points[0, ..., 2])
    assert scale == pytest.approx(1, abs=0.3)
    np.testing.assert_allclose(moved.points / scale, truth.points, atol=2e-3)
    np.testing.assert_allclose(
        moved.world_from_cam[:, :3, :3], truth.world_from_cam[:, :3, :3], atol=1e-4
    )
    np.testing.assert_array_equal(moved.world_from_cam[0], np.eye(4))


def test_photographs_bring_cameras_back(tmp_path):
    """Displaced cameras and points fit again, twice the same, and are saved; true ones stay."""
    truth = room()
    given = dataclasses.replace(displaced(truth, 2, 0.1), gaussians=None)
    tracks = find_tracks(given, photographs())
    scene = refine_on(given, tracks, keep_focal=True)
    told = scene.refinement
    assert all(told.refined) and told.error_px[1] < 0.5 < told.error_px[0]

    def off(poses):
        relative = poses[:, :3, :3].swapaxes(1, 2) @ truth.world_from_cam[:, :3, :3]
        return np.rad2deg(Rotation.from_matrix(relative).magnitude()).max()

    assert off(scene.world_from_cam) < 0.15 * off(given.world_from_cam)
    error, before = (np.abs(s.points - truth.points).mean() for s in (scene, given))
    assert error < 0.5 * before
    again = refine_on(given, tracks, keep_focal=True)
    np.testing.assert_array_equal(again.world_from_cam, scene.world_from_cam)
    scene.save(tmp_path / "out", [])
    assert Scene.load(tmp_path / "out" / SCENE_FILE).refinement == told
    good = refine_on(truth, tracks)
    np.testing.assert_array_equal(good.points, truth.points)
    assert not any(good.refinement.refined)


def test_depths_that_are_smoothly_wrong_come_back():
    """Where features are, bent views are straightened; each view's Gaussians grow as it does."""
    truth = room()
    row, column = np.mgrid[: truth.points.shape[1], : truth.points.shape[2]] / truth.points.shape[1]
    bend = [0.15 * np.sin(4 * column + view) * np.cos(3 * row) for view in range(VIEWS)]
    bend = np.exp(np.stack(bend))[..., None]
    centers = truth.world_from_cam[:, None, None, :3, 3]
    bent = np.float32(centers + bend * (truth.points - centers))
    given = displaced(dataclasses.replace(truth, points=bent), 2, 0.1)
    scene = refine_on(given, find_tracks(given, photographs()), keep_focal=True)
    assert all(scene.refinement.refined)
    factor = scene.depth / truth.depth
    wrong = np.abs(np.log(factor / np.median(factor, axis=(1, 2), keepdims=True)))
    before = np.abs(np.log(bend[..., 0] / np.median(bend[..., 0], axis=(1, 2), keepdims=True)))
    assert wrong.mean() < 0.5 * before.mean()
    grown = scene.gaussians.scales[..., 0] / given.gaussians.scales[..., 0]
    np.testing.assert_allclose(grown, factor / bend[..., 0] * np.median(grown), rtol=0.3)


@pytest.mark.parametrize("max_side", [256, 128])
def test_dots_are_found_where_they_are(monkeypatch, max_side):
    """To a tenth of a pixel, in the photograph as it is and in one made half as large."""
    scene, dots = room(), np.array([[61, 90], [140, 50], [200, 171]])
    v, u = np.mgrid[:256, :256]
    away = (u - dots[:, :1, None]) ** 2 + (v - dots[:, 1:, None]) ** 2
    photo = np.uint8(30 + 200 * np.exp(-away / 50).sum(axis=0))[..., None].repeat(3, axis=-1)

    def alike(found, *_):
        same = np.repeat(np.arange(len(found[0].pixel_px))[:, None], 2, axis=1)
        return [Matches((0, view), same) for view in range(1, VIEWS)]

    monkeypatch.setattr(sys.modules[find_tracks.__module__], "MAX_SIDE", max_side)
    monkeypatch.setattr(sys.modules[find_tracks.__module__], "match_all", alike)
    tracks = find_tracks(scene, [photo] * VIEWS)
    # Ideal pixels are those of the pictures for features, counted from their middles; the focal
    # lengths are alike.
    found = tracks.pixel_px * (256 / max_side) + scene.original_intrinsics[tracks.view, :2, 2]
    # SIFT finds other things between them as well.
    assert np.abs(found[:, None] - dots).max(axis=-1).min(axis=0).max() < 0.1


def test_what_does_not_belong_is_refused():
    """Another number of photographs, another size, a world of known poses: one sentence each."""
    scene = room()
    with pytest.raises(ValueError, match="3 images do not fit a scene of 4 views"):
        refine(scene, photographs()[:3])
    with pytest.raises(ValueError, match="00.jpg has .8, 9. pixels, the scene's had .256, 256."):
        refine(scene, [np.zeros((8, 9, 3), np.uint8)] * VIEWS)
    with pytest.raises(ValueError, match="known poses"):
        refine(dataclasses.replace(scene, world_is_reference=False), photographs())


def test_photographs_without_texture_leave_the_scene_as_it_is():
    """No feature at all is no error, and the scene says why nothing was done."""
    scene = room()
    sizes = np.asarray(scene.original_sizes)
    flat = [np.full((*size, 3), 120, np.uint8) for size in sizes]
    found = refine(scene, flat)
    np.testing.assert_array_equal(found.world_from_cam, scene.world_from_cam)
    np.testing.assert_array_equal(found.points, scene.points)
    assert not any(found.refinement.refined) and "matched features" in found.refinement.why


def test_a_photograph_enlarged_has_the_same_ideal_pixels(monkeypatch):
    """They are those of the picture that features are found in, whatever the file's size."""
    monkeypatch.setattr(refine_module, "MAX_SIDE", 128)
    scene, ideal = room(), []
    for times in (1, 5):
        original = np.array(scene.original_intrinsics)
        original[:, :2] *= times
        sizes = times * np.asarray(scene.original_sizes)
        enlarged = dataclasses.replace(scene, original_intrinsics=original, original_sizes=sizes)
        pixels = times * np.array([[10.0, 20.0], [200.0, 100.0]])
        ideal.append(refine_module._ideal(enlarged, 1, pixels))
    np.testing.assert_allclose(*ideal, rtol=1e-6)
    pixel = np.linalg.norm(np.diff(ideal[0], axis=0)) / np.linalg.norm([190.0, 80.0])
    assert pixel == pytest.approx(128 / max(scene.original_sizes[0]), rel=0.01)
