"""What the viewer offers beside looking: downloads, a box, measuring, a camera path, a surface."""

import io
import json
import zipfile

import numpy as np
import plyfile
import pycolmap
import pytest
import trimesh
from PIL import Image

from mvdust3r_jax.export import path_file, video
from mvdust3r_jax.export.posed_views import quat_from_rotation
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.viewer.downloads import OFFERS, packed
from mvdust3r_jax.viewer.ruler import point_at
from tests.viewer.drop_page import wait_for

OFFER = {offer.name: offer for offer in OFFERS}


def test_downloads_hold_what_is_shown(shown):
    """Points above the confidence and inside the box, as other readers count them."""
    shown.cloud.confidence.value = 40
    shown.cloud.crop.used.value = True
    shown.cloud.crop.size.value = (2.0, 2.0, 2.0)
    scene, mask = shown.cloud.shown_scene()
    assert 0 < mask.sum() < 0.6 * scene.masks.sum()
    wait_for(lambda: len(shown.cloud.points.points) == mask.sum())
    middle = np.asarray(shown.cloud.crop.middle)
    assert (np.abs(scene.points[mask] - middle) <= 1 + 1e-5).all()
    read = plyfile.PlyData.read(io.BytesIO(packed(scene, mask, OFFER["points.ply"])))
    assert len(read["vertex"]) == mask.sum()
    read = plyfile.PlyData.read(io.BytesIO(packed(scene, mask, OFFER["gaussians.ply"])))
    assert len(read["vertex"]) == mask.sum() and "f_dc_0" in read["vertex"]
    glb = trimesh.load(io.BytesIO(packed(scene, mask, OFFER["scene.glb"])), file_type="glb")
    assert max(len(g.vertices) for g in glb.geometry.values()) == mask.sum()


def test_downloaded_folders_are_those_that_programs_open(tmp_path, shown):
    """COLMAP's with the photographs in it, and a whole scene that `Scene.load` reads."""
    scene, mask = shown.cloud.shown_scene()
    sources = [tmp_path / f"{i:08x}.png" for i in range(3)]
    for source, (height, width) in zip(sources, scene.original_sizes, strict=True):
        Image.new("RGB", (int(width), int(height)), "teal").save(source)
    data = packed(scene, mask, OFFER["colmap.zip"], sources)
    zipfile.ZipFile(io.BytesIO(data)).extractall(tmp_path / "c")
    model = pycolmap.Reconstruction(tmp_path / "c" / "colmap" / "sparse" / "0")
    names = [image.name for image in model.images.values()]
    for name in names:
        with Image.open(tmp_path / "c" / "colmap" / "images" / name) as picture:
            assert picture.size == tuple(scene.original_sizes[0][::-1])
    zipfile.ZipFile(io.BytesIO(packed(scene, mask, OFFER["scene.zip"]))).extractall(tmp_path / "s")
    np.testing.assert_array_equal(Scene.load(tmp_path / "s").points, scene.points)


def test_a_click_hits_the_nearest_point_on_its_ray():
    """Not the one behind it, nor one behind the camera, nor one beside the ray."""
    points = np.array([[0, 0, 4.0], [0, 0, 2], [0, 0, -1], [0.5, 0, 1]])
    assert point_at(points, np.zeros(3), np.array([0, 0, 1.0])).tolist() == [0, 0, 2]
    assert point_at(points, np.zeros(3), np.array([0, 1.0, 0])) is None


def test_two_clicks_measure(shown):
    """The distance of the two points in the scene's unit; a third click begins anew."""
    first, second = shown.cloud.shown_points()[[5, 700]].astype(np.float64)
    for point in (first, second):
        shown.ruler.click(np.zeros(3), point / np.linalg.norm(point))
    assert shown.ruler.distance == pytest.approx(np.linalg.norm(first - second), abs=0.1)
    assert f"{shown.ruler.distance:.4g}" in shown.ruler.text.content
    shown.ruler.click(np.zeros(3), first / np.linalg.norm(first))
    assert shown.ruler.distance is None


def test_the_surface_is_shown_in_place_of_the_points(shown):
    """Where it can be fused; unticking brings the points back."""
    pytest.importorskip("skimage")
    shown.cloud.mesh.value = True
    wait_for(lambda: shown.cloud.mesh_node is not None and not shown.cloud.points.visible)
    surface = trimesh.load(io.BytesIO(shown.cloud.mesh_node.glb_data), file_type="glb")
    (piece,) = surface.geometry.values()
    low, high = piece.bounds
    points = shown.scene.points.reshape(-1, 3)
    assert (low > points.min(axis=0) - 0.2).all() and (high < points.max(axis=0) + 0.2).all()
    shown.cloud.mesh.value = False
    wait_for(lambda: shown.cloud.points.visible and not shown.cloud.mesh_node.visible)


def test_kept_views_make_a_path_that_render_follows(tmp_path, shown, monkeypatch):
    """From the browser's camera to a file, poses that pass through it, and a video."""
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    scene = shown.scene
    for pose, fov in zip(scene.world_from_cam, (0.7, 0.8, 0.9), strict=True):
        shown.path.add(quat_from_rotation(pose[:3, :3]), pose[:3, 3], fov)
    (tmp_path / "p.json").write_text(json.dumps(path_file.content(shown.path.frames)))
    frames = path_file.read_path(tmp_path / "p.json")
    poses, fovs_deg = path_file.poses_along(frames, 5)
    np.testing.assert_allclose(poses[::2], scene.world_from_cam, atol=1e-5)
    np.testing.assert_allclose(np.deg2rad(fovs_deg), [0.7, 0.75, 0.8, 0.85, 0.9], atol=1e-6)
    told = []

    def drawn(scene, poses, longest_px, fovs_deg):
        told.append((poses, fovs_deg))
        return iter(np.zeros((len(poses), 32, 48, 3), np.uint8))

    monkeypatch.setattr(video, "render_path", drawn)
    video.write_path_video(tmp_path / "p.mp4", scene, keyframes=frames, num_frames=5)
    np.testing.assert_array_equal(told[0][0], poses)
    np.testing.assert_array_equal(told[0][1], fovs_deg)
    assert imageio_ffmpeg.count_frames_and_secs(tmp_path / "p.mp4")[0] == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no camera path"),
        ("[]", "is no camera path"),
        ('{"format": "x"}', "its format is 'x'"),
        ('{"format": "mvdust3r camera path 1"}', "it lacks 'keyframes'"),
        ('{"format": "mvdust3r camera path 1", "keyframes": []}', "at least 2 keyframes"),
    ],
)
def test_other_files_are_no_path(tmp_path, text, words):
    """The file is named, and what it lacks."""
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(path_file.PathError, match=words) as error:
        path_file.read_path(tmp_path / "p.json")
    assert str(tmp_path / "p.json") in str(error.value)


def test_keyframes_must_be_cameras(tmp_path):
    """A pose that is none and a field of view of 200 degrees are named by their number."""
    good = path_file.Keyframe(np.eye(4), 50.0)
    for bad, words in [
        (path_file.Keyframe(2 * np.eye(4), 50.0), "keyframe 1 is no pose"),
        (path_file.Keyframe(np.eye(4), 200.0), "vertical_fov_deg of keyframe 1 is 200"),
    ]:
        (tmp_path / "p.json").write_text(json.dumps(path_file.content([good, bad])))
        with pytest.raises(path_file.PathError, match=words):
            path_file.read_path(tmp_path / "p.json")
