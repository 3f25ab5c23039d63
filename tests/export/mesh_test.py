"""Depth maps and meshes, read back by other programs, are the exact room's walls."""

import dataclasses
import json

import numpy as np
import plyfile
import pytest
import trimesh
from PIL import Image
from scipy.spatial import cKDTree

from mvdust3r_jax import export
from mvdust3r_jax.export import depth_files, glb, mesh
from tests.export_scene import box_room


@pytest.fixture(scope="module")
def scene():
    """Three exact views of the box room, all pixels equally sure."""
    room = box_room(3, height=64, width=96)
    return dataclasses.replace(room, confidence=np.full_like(room.confidence, 2))


@pytest.fixture(scope="module")
def written(tmp_path_factory, scene):
    """The mesh's folder."""
    folder = tmp_path_factory.mktemp("mesh")
    mesh.write_mesh(folder / "mesh", scene)
    return folder / "mesh"


def test_vertices_lie_on_the_walls(written, scene):
    """Within a fiftieth of a voxel for most, and two where the room has edges."""
    loaded = trimesh.load(written / "mesh.ply")
    facts = json.loads((written / "mesh.json").read_text())
    to_wall = wall_distance(scene, loaded.vertices)
    assert np.median(to_wall) < 0.02 * facts["voxel"]
    # The field rounds the edges of the room.
    assert np.quantile(to_wall, 0.9) < 0.25 * facts["voxel"] and to_wall.max() < 2 * facts["voxel"]


def wall_distance(scene, points):
    """Distance of points to the planes of the nearest pixels' surface."""
    pixels = scene.points.reshape(-1, 3).astype(np.float64)
    du = np.gradient(scene.points.astype(np.float64), axis=2)
    dv = np.gradient(scene.points.astype(np.float64), axis=1)
    normals = np.cross(du, dv).reshape(-1, 3)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    nearest = cKDTree(pixels).query(points)[1]
    return np.abs(np.sum((points - pixels[nearest]) * normals[nearest], axis=-1))


def corridor():
    """Two exact views along a hall of 3 x 2.5 m whose end is 9 m away, and its box."""
    height = width = 64
    k = np.array([[0.9 * width, 0, 31.5], [0, 0.9 * width, 31.5], [0, 0, 1]])
    low, high = np.array([-1.5, -1.0, -1.0]), np.array([1.5, 1.5, 9.0])
    v, u = np.mgrid[:height, :width]
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(k).T
    poses = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    poses[1, :3, 3] = [0.2, 0, 0.1]
    starts = poses[:, None, None, :3, 3].astype(np.float64)
    with np.errstate(divide="ignore"):
        depth = np.where(rays > 0, (high - starts) / rays, (low - starts) / rays).min(axis=-1)
    points = starts + depth[..., None] * rays
    room = box_room(2, height=height, width=width)
    scene = dataclasses.replace(
        room,
        points=points.astype(np.float32),
        confidence=np.full_like(room.confidence, 2),
        world_from_cam=poses,
        intrinsics=np.tile(k.astype(np.float32), (2, 1, 1)),
    )
    return scene, low, high


def test_slanted_surfaces_are_whole():
    """A floor steps by many voxels from row to row far away: it is there at pixels and between."""
    scene, low, high = corridor()
    made = mesh.scene_mesh(scene)
    voxel = made.facts["voxel"]
    beside = np.minimum(np.abs(made.vertices - low), np.abs(made.vertices - high)).min(axis=-1)
    assert np.median(beside) < 0.02 * voxel and beside.max() < 1.5 * voxel
    steps = np.abs(np.diff(scene.points[..., 2], axis=1)).max()
    assert steps > 10 * voxel, "else the mechanism is idle"
    floor = np.abs(scene.points[0, ..., 1] - high[1]) < 1e-3
    rows = floor[1:] & floor[:-1]
    between = (scene.points[0, 1:][rows] + scene.points[0, :-1][rows]) / 2
    for points in (scene.points.reshape(-1, 3), between):
        away = cKDTree(made.vertices).query(points)[0]
        assert (away > 2 * voxel).mean() < 0.01


def test_nothing_is_drawn_from_a_thing_to_what_is_behind_it():
    """A post in the hall: no vertex between it and the walls, though the floor goes on."""
    scene, low, high = corridor()
    post = np.s_[:, 10:, 28:36]
    points = scene.points.copy()
    cameras = scene.world_from_cam[:, None, None, :3, 3]
    near = 2.0 / (points[post][..., 2:] - cameras[..., 2:])
    points[post] = cameras + near * (points[post] - cameras)
    made = mesh.scene_mesh(dataclasses.replace(scene, points=points))
    on_wall = np.minimum(np.abs(made.vertices - low), np.abs(made.vertices - high)).min(axis=-1)
    to_post = cKDTree(points[post].reshape(-1, 3)).query(made.vertices)[0]
    assert (np.minimum(on_wall, to_post) > 4 * made.facts["voxel"]).mean() < 1e-3


def test_faces_look_at_the_cameras(written, scene):
    """The room is seen from inside: every normal points to where the camera stands."""
    loaded = trimesh.load(written / "mesh.ply")
    to_camera = scene.world_from_cam[0, :3, 3] - loaded.triangles_center
    assert (np.sum(loaded.face_normals * to_camera, axis=-1) > 0).mean() > 0.999


def test_colors_are_the_photographs(written, scene):
    """A vertex has the color of the nearest pixel, but for the checkerboard's edges."""
    vertex = plyfile.PlyData.read(written / "mesh.ply")["vertex"]
    xyz = np.stack([vertex[axis] for axis in "xyz"], axis=-1)
    colors = np.stack([vertex[c] for c in ("red", "green", "blue")], axis=-1) / 255
    nearest = cKDTree(scene.points.reshape(-1, 3)).query(xyz)[1]
    errors = np.abs(colors - scene.images_01.reshape(-1, 3)[nearest]).max(axis=-1)
    assert np.median(errors) < 0.02 and np.quantile(errors, 0.8) < 0.1


def test_glb_is_the_same_mesh_y_up(written):
    """trimesh finds the same faces, y and z negated."""
    (loaded,) = trimesh.load(written / "mesh.glb").geometry.values()
    ply = trimesh.load(written / "mesh.ply")
    assert loaded.faces.shape == ply.faces.shape
    np.testing.assert_allclose(
        loaded.triangles.mean(axis=1), ply.triangles_center * [1, -1, -1], atol=1e-5
    )
    linear = glb.linear_from_srgb(np.asarray(ply.visual.vertex_colors[:, :3]))
    assert abs(loaded.visual.vertex_attributes["color"][:, :3].mean() - linear.mean()) < 0.01


def test_a_hole_is_counted(scene, written):
    """What no view shows is left open, and one more closed rim is said."""
    holed = dataclasses.replace(scene, masks=scene.masks.copy())
    middle = scene.points[0, 32, 48]
    holed.masks &= np.linalg.norm(scene.points - middle, axis=-1) > 0.4
    whole, made = trimesh.load(written / "mesh.ply"), mesh.scene_mesh(holed)

    def holes_around(vertices, faces):
        near = np.linalg.norm(vertices - middle, axis=-1)[faces].max(axis=-1) < 1
        return mesh.count_holes(faces[near])

    # The patch's own rim is one.
    assert holes_around(whole.vertices, whole.faces) == 1
    assert holes_around(made.vertices, made.faces) == 2
    assert np.linalg.norm(made.vertices - middle, axis=-1).min() > 0.4 - 2 * made.facts["voxel"]


def test_small_pieces_are_dropped_and_counted(scene):
    """A few pixels that float in the room leave no face, and their faces are told."""
    floating = dataclasses.replace(scene, points=scene.points.copy())
    camera = scene.world_from_cam[1, :3, 3]
    patch = np.s_[1, 30:34, 40:44]
    floating.points[patch] = camera + 0.5 * (scene.points[patch] - camera)
    floating.confidence = scene.confidence.copy()
    floating.confidence[patch] = 1e4
    made = mesh.scene_mesh(floating)
    assert made.facts["faces_of_dropped_pieces"] > 0
    assert wall_distance(scene, made.vertices).max() < 3 * made.facts["voxel"]


def test_surface_through_two_disagreeing_views_lies_between_by_confidence():
    """One view sure three times as much: a quarter of the way from it."""
    room = box_room(1, height=48, width=48)
    v, u = np.meshgrid(np.arange(48), np.arange(48), indexing="ij")
    rays = np.stack([(u - 23.5) / 43.2, (v - 23.5) / 43.2, np.ones((48, 48))], axis=-1)
    twice = {
        field.name: np.repeat(getattr(room, field.name), 2, 0)
        for field in dataclasses.fields(room)
        if isinstance(getattr(room, field.name), np.ndarray)
    }
    both = dataclasses.replace(room, **twice, names=["a.jpg", "b.jpg"], gaussians=None)
    both.points = np.stack([2.0 * rays, 2.04 * rays]).astype(np.float32)
    both.confidence = np.stack([np.full((48, 48), 3.0), np.ones((48, 48))]).astype(np.float32)
    made = mesh.scene_mesh(both)
    np.testing.assert_allclose(np.median(made.vertices[:, 2]), 2.01, atol=1e-3)


def test_depth_files_hold_the_depth(tmp_path, scene):
    """In a known unit: PIL reads thousandths, NumPy the unit; pixels outside the mask are 0."""
    metric = dataclasses.replace(scene, metric=True, masks=scene.masks.copy())
    metric.masks[:, :, :5] = False
    export.write(metric, tmp_path, ["depth"], export.PointFilter(drop_share=0))
    index = json.loads((tmp_path / "depth" / "depth.json").read_text())
    assert index["unit"] == "that of the known poses" and len(index["views"]) == 3
    for i, entry in enumerate(index["views"]):
        with Image.open(tmp_path / "depth" / entry["depth_mm"]) as picture:
            assert picture.mode == "I;16"
            millimeters = np.asarray(picture).astype(np.float64)
        stored = np.load(tmp_path / "depth" / entry["depth"])
        wanted = np.where(metric.masks[i], scene.depth[i], 0)
        np.testing.assert_allclose(stored["depth"], wanted, atol=1e-5)
        np.testing.assert_allclose(millimeters / 1000, wanted, atol=0.00051)
        np.testing.assert_array_equal(stored["confidence"], scene.confidence[i])
        assert entry["photograph"] == scene.names[i] and entry["pixels_beyond_png"] == 0


def test_depth_of_unknown_scale_has_no_millimeters(tmp_path, scene):
    """No PNG, and the index says that the unit is unknown."""
    export.write(scene, tmp_path, ["depth"])
    assert not list((tmp_path / "depth").glob("*.png"))
    assert "unknown" in json.loads((tmp_path / "depth" / "depth.json").read_text())["unit"]


def test_depth_beyond_the_png_is_none_and_counted(tmp_path):
    """65.536 m does not become 0.000 m of another meaning, nor wrap around."""
    depth = np.array([[65.535, 65.536, 0.0, 1.2344]], np.float32)
    assert depth_files.write_png_mm(tmp_path / "d.png", depth) == 1
    with Image.open(tmp_path / "d.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), [[65535, 0, 0, 1234]])
