"""COLMAP models, 3DGS files, point filters and camera paths: geometry that must be exact."""

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
    camera_paths,
    colmap,
    frusta,
    gaussians,
    html,
    point_filter,
    posed_views,
    splat_ply,
    video,
)
from mvdust3r_jax.geometry import transforms
from mvdust3r_jax.reconstruction.known_world import align_to_poses
from mvdust3r_jax.splat.pointmaps import MIN_SCALE
from tests.export_scene import box_room


@pytest.fixture(scope="module")
def scene():
    """Three exact views of the box room."""
    return box_room(3)


def colmap_errors(model):
    """Distance in pixels of every observation to its point's projection, by pycolmap's camera."""
    errors = []
    for point in model.points3D.values():
        for element in point.track.elements:
            image = model.images[element.image_id]
            seen = image.points2D[element.point2D_idx]
            assert seen.has_point3D()
            errors.append(np.linalg.norm(image.project_point(point.xyz) - seen.xy))
    return np.array(errors)


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


def test_gaussian_file_reads_back_what_was_written(tmp_path):
    """Activated values survive logarithm, logit and float32, for degrees 0 and 1."""
    for degree in (0, 1):
        cloud = gaussians.gaussian_cloud(box_room(2, sh_degree=degree))
        splat_ply.write_gaussian_cloud(tmp_path / "g.ply", cloud)
        again = splat_ply.read_gaussian_cloud(tmp_path / "g.ply")
        assert again.sh_degree == degree
        for field in dataclasses.fields(cloud):
            # log and exp in float32 keep six digits.
            np.testing.assert_allclose(
                getattr(again, field.name), getattr(cloud, field.name), rtol=2e-6, atol=1e-6
            )


def test_gaussian_file_has_the_standard_columns(tmp_path):
    """plyfile sees 3DGS's columns in order, values before activation, channel by channel."""
    room = box_room(2, sh_degree=1)
    splat_ply.write_splat_ply(tmp_path / "g.ply", room)
    vertex = plyfile.PlyData.read(tmp_path / "g.ply")["vertex"]
    names = [p.name for p in vertex.properties]
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[9:18] == [f"f_rest_{i}" for i in range(9)]
    assert names[18:] == [
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]
    opacity = room.gaussians.opacities.reshape(-1)
    np.testing.assert_allclose(1 / (1 + np.exp(-vertex["opacity"])), opacity, atol=1e-6)
    # f_rest_3 is the first higher coefficient (k = 1) of green (channel 1).
    np.testing.assert_array_equal(vertex["f_rest_3"], room.gaussians.colors[..., 4].reshape(-1))
    least = MIN_SCALE * gaussians.mean_distance(room)
    wanted = np.log(np.maximum(room.gaussians.scales[..., 0].reshape(-1), least))
    np.testing.assert_allclose(vertex["scale_0"], wanted, atol=1e-5)


@pytest.mark.parametrize("degree", [0, 1])
def test_reread_gaussians_render_like_the_scene(tmp_path, degree):
    """The file, read back and rendered, gives the direct rendering's image."""
    room = box_room(2, height=16, width=24, sh_degree=degree)
    splat_ply.write_splat_ply(tmp_path / "g.ply", room)
    again = splat_ply.read_gaussian_cloud(tmp_path / "g.ply")
    arguments = room.world_from_cam[:1], room.intrinsics[0], 16, 24
    (direct,) = video.render(gaussians.gaussian_cloud(room), *arguments)
    (reread,) = video.render(again, *arguments)
    assert direct.min() < 0.7  # something is drawn on the white ground
    # Six digits of every parameter; a pixel sums a few dozen Gaussians.
    np.testing.assert_allclose(reread, direct, atol=2e-5)


def test_stand_in_gaussians_render_the_photograph():
    """Without Gaussian heads, surfels as large as pixels show the input view to a pixel."""
    room = box_room(1, height=32, width=48, with_gaussians=False)
    v, u = np.meshgrid(np.arange(32) / 48, np.arange(48) / 48, indexing="ij")
    room.images_01[0] = np.stack([u, v, np.full_like(u, 0.5)], axis=-1)
    cloud = gaussians.gaussian_cloud(room)
    (image,) = video.render(cloud, room.world_from_cam, room.intrinsics[0], 32, 48)
    inner = np.s_[3:-3, 3:-3]
    # A ramp stays itself under blur, so a difference in color is a shift in pixels. Neighbors
    # overlap, and the nearer one of a slanted wall covers the other: up to a pixel of shift.
    shift = 48 * np.median((image - room.images_01[0])[inner][..., :2], axis=(0, 1))
    np.testing.assert_allclose(shift, 0, atol=1)
    np.testing.assert_allclose(image[inner][..., 2], 0.5, atol=0.02)


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


SURVEY = np.array([4.5e5, 5.4e6, 120.0])


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


@pytest.mark.parametrize(
    "content", [b"", b"ply\n", b"hello", b"ply\nformat ascii 1.0\nend_header\n"]
)
def test_other_files_are_no_gaussians(tmp_path, content):
    """Whatever is no 3DGS file is refused with a ValueError that names the file."""
    (tmp_path / "x.ply").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.ply"):
        splat_ply.read_gaussian_cloud(tmp_path / "x.ply")


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
    kept = export.keep(scene, export.PointFilter(5.0, 0.25, True, max_points=100))
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


def test_orbit_looks_at_one_point_and_closes(scene):
    """All optical axes meet in the target, poses are rotations, neighbors are close."""
    poses = camera_paths.orbit(scene, 24)
    rotations = poses[:, :3, :3]
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (24, 1, 1)), atol=1e-12
    )
    start = scene.world_from_cam[0]
    distance = np.median((scene.points[0] - start[:3, 3]) @ start[:3, 2])
    target = start[:3, 3] + distance * start[:3, 2]
    to_target = target - poses[:, :3, 3]
    np.testing.assert_allclose(
        poses[:, :3, 2], to_target / np.linalg.norm(to_target, axis=1, keepdims=True), atol=1e-6
    )
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0, append=poses[:1, :3, 3]), axis=1)
    assert steps.max() < 3 * steps.min()


def test_flight_passes_through_every_camera(scene):
    """Frame i * frames_per_view is camera i; a single camera gives a single frame."""
    poses = camera_paths.fly_through(scene, 5)
    assert len(poses) == 11
    np.testing.assert_allclose(poses[::5], scene.world_from_cam, atol=1e-6)
    alone = dataclasses.replace(scene, pose_ok=np.array([False, True, False]))
    np.testing.assert_allclose(
        camera_paths.fly_through(alone, 5), scene.world_from_cam[1:2], atol=1e-6
    )


def test_quaternions_agree_with_the_geometry_package(key):
    """The NumPy quaternions of the exporters are those of `geometry.transforms`, up to sign."""
    rotations = transforms.rotation_from_quat(jax.random.normal(key, (50, 4)))
    quats = posed_views.quat_from_rotation(rotations)
    np.testing.assert_allclose(posed_views.rotation_matrices(quats), rotations, atol=1e-6)
    theirs = np.asarray(transforms.quat_from_rotation(rotations))
    np.testing.assert_allclose(np.abs(np.sum(theirs * quats, axis=-1)), 1, atol=1e-6)
