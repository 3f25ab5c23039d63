"""Worlds that are not the reference camera's: turned, larger, and far from their origin."""

import dataclasses
import json

import jax
import numpy as np
import plyfile
import pycolmap
import pytest
import trimesh

from mvdust3r_jax import export
from mvdust3r_jax.cameras import known as known_cameras
from mvdust3r_jax.export import (
    frusta,
    gaussians,
    html,
    point_filter,
    posed_views,
    splat_ply,
)
from mvdust3r_jax.geometry import transforms
from mvdust3r_jax.reconstruction.known_world import align_to_poses
from tests.export.reprojection import colmap_errors

SURVEY = np.array([4.5e5, 5.4e6, 120.0])


def test_sizes_do_not_depend_on_where_the_world_is(scene):
    """2 km away, frusta, least and stand-in scales are what they were beside the origin."""
    far = dataclasses.replace(
        scene,
        points=scene.points + np.float32([2000, 0, 0]),
        world_from_cam=scene.world_from_cam.copy(),
        world_is_reference=False,
    )
    far.world_from_cam[:, 0, 3] += 2000
    # float32 holds 2 km to 1e-4 m.
    np.testing.assert_allclose(frusta.frustum_depth(far), frusta.frustum_depth(scene), rtol=1e-4)
    for gaussian_heads in (scene.gaussians, None):
        clouds = [
            gaussians.gaussian_cloud(dataclasses.replace(s, gaussians=gaussian_heads))
            for s in (far, scene)
        ]
        np.testing.assert_allclose(*(cloud.scales for cloud in clouds), rtol=1e-4)


def test_poses_of_nerfstudio_come_back(tmp_path, scene):
    """Read, a scene aligned to them and written again: the same matrices; glb keeps the world."""
    turn = np.eye(4)
    turn[:3, :3] = transforms.rotation_from_axis_angle(jax.numpy.array([0.3, 1.0, -0.5]))
    turn[:3, 3] = [5, -2, 1]
    opengl = turn @ scene.world_from_cam @ np.diag([1.0, -1, -1, 1])
    frames = [
        {"file_path": f"images/{name}", "transform_matrix": pose.tolist()}
        for name, pose in zip(scene.names, opengl, strict=True)
    ]
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": frames}))
    known = known_cameras.read_cameras(tmp_path / "transforms.json", scene.names)
    aligned = align_to_poses(scene, known.world_from_cam)
    export.write(aligned, tmp_path, ["nerfstudio", "ply", "glb", "cameras"])
    again = json.loads((tmp_path / "nerfstudio" / "transforms.json").read_text())
    poses = [frame["transform_matrix"] for frame in again["frames"]]
    np.testing.assert_allclose(poses, opengl, atol=1e-6)
    assert again["applied_transform"] == np.eye(4)[:3].tolist()
    xyz = plyfile.PlyData.read(tmp_path / "scene.ply")["vertex"]
    seeds = plyfile.PlyData.read(tmp_path / "nerfstudio" / "sparse_pc.ply")["vertex"]
    np.testing.assert_array_equal(seeds["y"], xyz["y"])
    points = trimesh.load(tmp_path / "scene.glb").geometry["points"].vertices
    np.testing.assert_array_equal(points[:, 1], xyz["y"])
    assert b"known poses" in (tmp_path / "scene.ply").read_bytes()[:200]
    said = json.loads((tmp_path / "cameras.json").read_text())["conventions"]
    assert "known poses" in said["world"] and "known poses" in said["units"]
    # The room's cameras stand upright: down is theirs.
    np.testing.assert_allclose(posed_views.down_direction(aligned), turn[:3, 1], atol=1e-2)


@pytest.fixture(scope="module")
def survey(scene):
    """The scene aligned to known poses in a survey's world, turned and larger; and those poses."""
    known = np.array(scene.world_from_cam, np.float64)
    turn = np.array(transforms.rotation_from_axis_angle(jax.numpy.array([0.3, 1.0, -0.5])))
    known[:, :3, :3] = turn @ known[:, :3, :3]
    known[:, :3, 3] = 2 * known[:, :3, 3] @ turn.T + SURVEY
    # The nearest rotations: those of float32 are orthogonal to 1e-7 only, which is 0.5 m out there.
    u, _, vt = np.linalg.svd(known[:, :3, :3])
    known[:, :3, :3] = u @ vt
    return align_to_poses(scene, known), known, turn


def test_a_survey_keeps_its_millimeters(survey, scene):
    """Points and poses of a world of millions of meters are what they are beside the origin."""
    aligned, known, turn = survey
    np.testing.assert_array_equal(aligned.world_from_cam, known)
    near = 2 * np.asarray(scene.points, np.float64) @ turn.T
    assert np.abs(aligned.points - SURVEY - near).max() < 1e-4
    moved, origin = aligned.recentered()
    assert moved.points.dtype == np.float32 and np.abs(origin - SURVEY).max() < 10
    assert scene.recentered()[0] is scene


def test_every_export_of_a_survey_keeps_its_millimeters(tmp_path, survey, scene):
    """Distances from the first camera, in every format, agree with those beside the origin."""
    aligned, known, _ = survey
    formats = "ply glb 3dgs colmap nerfstudio npz cameras html".split()
    export.write(aligned, tmp_path, formats, point_filter.PointFilter(drop_share=0.0))
    points = np.asarray(aligned.points).reshape(-1, 3)
    for name in ("scene.ply", "gaussians.ply", "nerfstudio/sparse_pc.ply"):
        vertices = plyfile.PlyData.read(tmp_path / name)["vertex"]
        read = np.stack([vertices[axis] for axis in "xyz"], axis=-1)
        np.testing.assert_allclose(read, points, rtol=0, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(
        splat_ply.read_gaussian_cloud(tmp_path / "gaussians.ply").means, points
    )
    shown = trimesh.load(tmp_path / "scene.glb")
    transform, geometry = shown.graph.get("points")
    read = shown.geometry[geometry].vertices @ transform[:3, :3].T + transform[:3, 3]
    np.testing.assert_allclose(read, points, rtol=0, atol=1e-5)
    model = pycolmap.Reconstruction(tmp_path / "colmap" / "sparse" / "0")
    errors = colmap_errors(model)  # joined tracks may err beside edges, as near the origin
    assert np.median(errors) < 0.001 and np.quantile(errors, 0.9) < 0.01 and errors.max() < 3
    centers = [model.images[i + 1].projection_center() for i in range(3)]
    np.testing.assert_allclose(centers, known[:, :3, 3], rtol=0, atol=1e-6)
    frames = json.loads((tmp_path / "nerfstudio/transforms.json").read_text())["frames"]
    views = json.loads((tmp_path / "cameras.json").read_text())["views"]
    for frame, view, pose in zip(frames, views, known, strict=True):
        np.testing.assert_array_equal(np.array(frame["transform_matrix"])[:3, 3], pose[:3, 3])
        np.testing.assert_array_equal(view["world_from_cam"], pose)
    page = html.page_data(aligned, 1000)
    size = np.subtract(page["points"]["high"], page["points"]["low"])
    assert size.max() < 100 and np.abs(page["points"]["low"]).max() < 100
    assert "450" in page["conventions"]["origin"]
