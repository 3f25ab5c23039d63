"""Cameras of a scene, found in pointmaps that are known exactly, or given."""

import dataclasses

import numpy as np
import pycolmap
import pytest

from mvdust3r_jax.cameras import known as known_cameras
from mvdust3r_jax.cameras.known import KnownCameras
from mvdust3r_jax.reconstruction.reconstruct import reconstruct
from mvdust3r_jax.reconstruction.scene_cameras import camera_programs, find_cameras
from tests.reconstruction.perfect_network import answered, posed_box


def test_cameras_of_perfect_pointmaps(perfect):
    """Focal length, poses and depths are recovered; at twice the size the focal doubles."""
    model, photos, _, intrinsics, poses = perfect
    scene = reconstruct(photos, model)
    assert scene.pose_ok.all()
    np.testing.assert_allclose(scene.intrinsics, intrinsics, rtol=1e-3)
    np.testing.assert_allclose(scene.world_from_cam, poses, atol=2e-3)
    np.testing.assert_allclose(scene.original_intrinsics[:, 0, 0], 110, rtol=1e-3)
    assert (scene.depth > 2).all()


def test_what_is_masked_moves_no_camera(monkeypatch):
    """Two thirds of each pointmap tell of other cameras, all the same; a mask hides them."""
    points, intrinsics, poses = posed_box(3)
    told = points.copy()
    told[:, :, 24:] = told[:, :, 24:] * [2, 2, 1] + [1, 0, 0]
    model, photos, *_ = answered(monkeypatch, told, intrinsics, poses)
    mask = np.arange(128) < np.full((96, 1), 2 * 24 - 4)
    scene = reconstruct(photos, model, masks=[mask] * 3)
    assert scene.masks[:, :, :20].all() and not scene.masks[:, :, 24:].any()
    np.testing.assert_allclose(scene.intrinsics, intrinsics, rtol=1e-3)
    np.testing.assert_allclose(scene.world_from_cam, poses, atol=2e-3)


def test_the_references_own_middle_gives_the_focal_length():
    """Which it is not of the other views; of a reference that shows nothing a phone's is taken."""
    points, intrinsics, poses = posed_box(3, moved_px=[[-6, 4], [8, -5], [0, 0]])
    found_by = camera_programs(3, 48, 64, "one")
    points = (points - poses[1, :3, 3]) @ poses[1, :3, :3]
    confidence = np.ones(points.shape[:-1], np.float32)
    found, world_from_cam, ok = find_cameras(found_by, points, confidence, intrinsics, "one", 1)
    assert ok.all()
    np.testing.assert_allclose(found, intrinsics, rtol=1e-3)
    np.testing.assert_allclose(world_from_cam, np.linalg.inv(poses[1]) @ poses, atol=2e-3)
    confidence[1] = 0
    found, *_ = find_cameras(found_by, points, confidence, intrinsics, "one", 1)
    np.testing.assert_allclose(found[:, 0, 0], 0.8 * 64, rtol=1e-6)


@pytest.mark.parametrize("zoom", [0.6, 1.4, 2.0])
def test_another_zoom_has_its_own_focal_length(monkeypatch, zoom, tmp_path):
    """It is found beside the common one, with the pose, and stands in what other programs read."""
    focal = [55.0, 55 * zoom, 55.0]
    model, photos, _, intrinsics, poses = answered(monkeypatch, *posed_box(3, focal))
    photos = [dataclasses.replace(p, name=f"{i}.jpg") for i, p in enumerate(photos)]
    scene = reconstruct(photos, model)
    np.testing.assert_allclose(scene.intrinsics, intrinsics, rtol=2e-3)
    np.testing.assert_allclose(scene.world_from_cam, poses, atol=5e-3)
    np.testing.assert_allclose(scene.original_intrinsics[:, 0, 0], 2 * np.array(focal), rtol=2e-3)
    scene.save(tmp_path, ["colmap", "cameras"])
    model = pycolmap.Reconstruction(tmp_path / "colmap" / "sparse" / "0")
    read = [i.camera.focal_length_x for i in sorted(model.images.values(), key=lambda i: i.name)]
    np.testing.assert_allclose(read, 2 * np.array(focal), rtol=2e-3)


def test_one_lens_for_all_is_kept_where_it_is_asked_for(monkeypatch):
    """``"one"`` passes over another zoom; ``"each"`` changes nothing where all are alike."""
    model, photos, *_ = answered(monkeypatch, *posed_box(3, [55, 80, 55]))
    assert np.ptp(reconstruct(photos, model, focal_px="one").intrinsics[:, 0, 0]) == 0
    model, photos, _, intrinsics, _ = answered(monkeypatch, *posed_box(3))
    each = reconstruct(photos, model, focal_px="each").intrinsics
    np.testing.assert_allclose(each, intrinsics, rtol=2e-3)


def test_known_focal_lengths_are_used(perfect):
    """What is known at the original size is not estimated again."""
    model, photos, _, _, _ = perfect
    scene = reconstruct(photos, model, focal_px=[110.0, 110, 90])
    np.testing.assert_allclose(scene.original_intrinsics[:, 1, 1], [110, 110, 90], rtol=1e-6)
    np.testing.assert_allclose(scene.intrinsics[:, 1, 1], [55, 55, 45], rtol=1e-6)
    known = np.tile(np.array([[110.0, 0, 60], [0, 112, 50], [0, 0, 1]]), (3, 1, 1))
    scene = reconstruct(photos, model, cameras=KnownCameras(known))
    np.testing.assert_allclose(scene.original_intrinsics, known, rtol=1e-5)


def test_intrinsics_of_another_size_are_scaled_or_refused(perfect):
    """Half as large an image gives the same scene; an image of another shape does not fit."""
    model, photos, *_ = perfect
    at_half = np.tile(np.array([[55.0, 0, 29.75], [0, 55, 24.75], [0, 0, 1]]), (3, 1, 1))
    sizes = np.tile([48, 64], (3, 1))
    scene = reconstruct(photos, model, cameras=KnownCameras(at_half, image_sizes=sizes))
    expected = [[110, 0, 60], [0, 110, 50], [0, 0, 1]]
    np.testing.assert_allclose(scene.original_intrinsics[1], expected, rtol=1e-5, atol=1e-5)
    turned = KnownCameras(at_half, image_sizes=sizes[:, ::-1])
    with pytest.raises(known_cameras.CameraError, match="a has 128 x 96 pixels.* 48 x 64"):
        reconstruct(photos, model, cameras=turned)
    with pytest.raises(ValueError, match=r"128 x 96 pixels: its principal point \(300.0, 50.0\)"):
        outside = at_half.copy()
        outside[:, :2, 2] = [300.0, 50.0]
        reconstruct(photos, model, cameras=KnownCameras(outside))


def test_cameras_are_read_back_from_our_own_file(perfect, tmp_path):
    """cameras.json and nerfstudio's transforms.json of an export are known cameras again."""
    model, photos, _, _, poses = perfect
    photos = [dataclasses.replace(p, name=f"{i}.jpg") for i, p in enumerate(photos)]
    scene = reconstruct(photos, model)
    scene.save(tmp_path, ["cameras", "nerfstudio"])
    for path in (tmp_path / "cameras.json", *tmp_path.rglob("transforms.json")):
        known = known_cameras.read_cameras(path, ["2.jpg", "0.jpg"])
        # nerfstudio's world is turned to have z up; the relative pose does not know of it.
        relative = np.linalg.inv(known.world_from_cam[1]) @ known.world_from_cam[0]
        np.testing.assert_allclose(relative, poses[2], atol=2e-3)
        np.testing.assert_allclose(known.intrinsics[:, 0, 0], 110, rtol=1e-3)
    with pytest.raises(known_cameras.CameraError, match=r"no camera for 9.jpg"):
        known_cameras.read_cameras(tmp_path / "cameras.json", ["9.jpg"])
