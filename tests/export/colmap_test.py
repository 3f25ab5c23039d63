"""COLMAP models as pycolmap reads them, and the tracks in them."""

import dataclasses

import numpy as np
import pycolmap
import pytest

from mvdust3r_jax.export import (
    colmap,
)
from tests.export.reprojection import colmap_errors


@pytest.mark.parametrize("write", [colmap.write_colmap, colmap.write_colmap_text])
def test_pycolmap_reads_the_model_and_reprojects_exactly(tmp_path, scene, write):
    """pycolmap finds cameras, poses and tracks; points fall on their pixels."""
    write(tmp_path / "model", scene)
    model = pycolmap.Reconstruction(tmp_path / "model" / "sparse" / "0")
    assert len(model.images) == len(model.cameras) == 3
    # The fixture is exact but for points near an edge of the room, whose nearest in another view
    # lies on the other wall.
    errors = colmap_errors(model)
    assert np.median(errors) < 0.001 and np.quantile(errors, 0.9) < 0.01 and errors.max() < 3
    lengths = np.array([point.track.length() for point in model.points3D.values()])
    said = [point.error for point in model.points3D.values()]
    means = np.add.reduceat(errors, np.cumsum(lengths) - lengths) / lengths
    # Binary or text, floats have more digits than poses and points, which are float32.
    np.testing.assert_allclose(said, means, atol=2e-3)
    assert (lengths >= 2).mean() > 0.6
    image = model.images[2]
    assert image.name == "view_1.jpg"  # no white space in COLMAP's text format
    pose = np.linalg.inv(np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]]))
    np.testing.assert_allclose(pose, scene.world_from_cam[1], atol=1e-6)
    camera = model.cameras[image.camera_id]
    assert (camera.height, camera.width) == tuple(scene.original_sizes[1])
    center = scene.original_intrinsics[1, :2, 2] + 0.5
    np.testing.assert_allclose([camera.principal_point_x, camera.principal_point_y], center)


def test_pycolmap_writes_the_same_files(tmp_path, scene):
    """Read and written again by pycolmap, every file is the same to the byte."""
    colmap.write_colmap(tmp_path / "model", scene)
    (tmp_path / "again").mkdir()
    pycolmap.Reconstruction(tmp_path / "model" / "sparse" / "0").write_binary(tmp_path / "again")
    for ours in (tmp_path / "model" / "sparse" / "0").iterdir():
        assert ours.read_bytes() == (tmp_path / "again" / ours.name).read_bytes(), ours.name


def test_colmap_image_points_are_the_original_pixels(tmp_path, scene):
    """Seed observations lie at the centers of network pixels, taken to the photograph, plus 0.5."""
    one = dataclasses.replace(scene, pose_ok=np.array([False, True, False]))
    colmap.write_colmap(tmp_path / "model", one)
    model = pycolmap.Reconstruction(tmp_path / "model" / "sparse" / "0")
    (image,) = model.images.values()
    seen = np.array([point.xy for point in image.points2D])
    v, u = np.meshgrid(np.arange(32), np.arange(48), indexing="ij")
    expected = np.stack([3 * (u + 0.5) + 18, 3 * (v + 0.5)], axis=-1).reshape(-1, 2)
    np.testing.assert_allclose(seen, expected, atol=2e-3)


def test_tracks_claim_each_pixel_once(scene):
    """No pixel seeds a track that another track already owns, and views differ within a track."""
    tracks = colmap.build_tracks(scene, scene.masks)
    pairs = np.stack([tracks.point, tracks.view], axis=-1)
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert len(tracks.view) <= scene.masks.size
    assert len(np.unique(tracks.seeds)) == len(tracks.seeds)


def test_occluded_points_join_no_track(scene):
    """Points moved in front of a wall in one view are matched by no other view."""
    moved = dataclasses.replace(scene, points=scene.points.copy())
    camera = scene.world_from_cam[1, :3, 3]
    moved.points[1] = camera + 0.7 * (scene.points[1] - camera)
    tracks = colmap.build_tracks(moved, moved.masks)
    alone = tracks.point[tracks.view == 1]
    assert np.isin(alone, tracks.point[tracks.view != 1]).sum() == 0
