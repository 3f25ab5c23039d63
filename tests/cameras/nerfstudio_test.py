"""Cameras of nerfstudio's files: whose they are, which lens they have, and what is no camera."""

import json

import numpy as np
import pytest

from mvdust3r_jax.cameras import known as known_cameras
from mvdust3r_jax.cameras.known import KnownCameras


def transforms_file(path, *frames, **common):
    """A nerfstudio file of frames given as (file_path, further fields); poses are the identity."""
    frames = [{"file_path": f, "transform_matrix": np.eye(4).tolist(), **x} for f, x in frames]
    path.write_text(json.dumps({**common, "frames": frames}))
    return path


def test_cameras_are_found_by_the_longest_path(tmp_path):
    """Photographs of one name in two folders have their own cameras, never each other's."""
    frames = [
        (f"{side}/0001.png", {"fl_x": f, "cx": 5, "cy": 5}) for side, f in (("l", 1), ("r", 2))
    ]
    path = transforms_file(tmp_path / "t.json", *frames)
    known = known_cameras.read_cameras(path, ["/data/r/0001.jpg", "/data/l/0001.jpg"])
    np.testing.assert_array_equal(known.intrinsics[:, 0, 0], [2, 1])
    with pytest.raises(known_cameras.CameraError, match=r"may be any of l/0001.png, r/0001.png"):
        known_cameras.read_cameras(path, ["0001.png"])
    one = transforms_file(tmp_path / "one.json", frames[0])
    with pytest.raises(known_cameras.CameraError, match="l/0001.png, for both l/0001.png and r/"):
        known_cameras.read_cameras(one, ["l/0001.png", "r/0001.png"])
    assert known_cameras.read_cameras(one, ["l/0001.png"] * 2).intrinsics.shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (dict(fl_x=50, fl_y=60, cx=31.0, cy=20.0), (50, 60, 30.5, 19.5)),
        (dict(fl_x=50, w=64, h=48), (50, 50, 31.5, 23.5)),
        (dict(fl_y=50, w=64, h=48), (50, 50, 31.5, 23.5)),
        (dict(fl_x=50, w=64, h=48, camera_model=None), (50, 50, 31.5, 23.5)),
        (dict(fl_x=50, w=64, h=48, camera_model="pinhole"), (50, 50, 31.5, 23.5)),
        (dict(camera_angle_x=np.pi / 2, w=64, h=48), (32, 32, 31.5, 23.5)),
        (dict(camera_angle_y=np.pi / 2, w=64, h=48), (24, 24, 31.5, 23.5)),
        (dict(camera_angle_x=np.pi / 2), None),
        (dict(), None),
    ],
)
def test_nerfstudio_intrinsics(tmp_path, fields, expected):
    """Focal length or field of view; the middle where no center is given; else said to lack."""
    path = transforms_file(tmp_path / "t.json", ("a.png", {}), ("b.png", {}), **fields)
    known = known_cameras.read_cameras(path, ["a.png", "b.png"])
    assert known.world_from_cam.shape == (2, 4, 4)
    if expected is None:
        assert known.intrinsics is None
        assert "no intrinsics for a.png, b.png, so none are taken" in known.left_out[0]
    else:
        k = known.intrinsics[1]
        np.testing.assert_allclose([k[0, 0], k[1, 1], k[0, 2], k[1, 2]], expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(k1=0.1, p2=-0.01), r"b.png has lens distortion \(k1 = 0.1, p2 = -0.01\)"),
        (dict(camera_model="OPENCV_FISHEYE"), "OPENCV_FISHEYE"),
    ],
)
def test_lenses_that_are_no_pinholes_are_refused(tmp_path, fields, message):
    """Unless only the poses are wanted, or the camera is of another photograph."""
    path = transforms_file(tmp_path / "t.json", ("a.png", {"k1": 0.0}), ("b.png", fields))
    with pytest.raises(known_cameras.CameraError, match=message):
        known_cameras.read_cameras(path, ["b.png"])
    assert known_cameras.read_cameras(path, ["b.png"], "poses").world_from_cam is not None
    known_cameras.read_cameras(path, ["a.png"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"views": [{}]}', '{"frames": [{"a": 1}]}', "x"])
def test_other_camera_files_are_refused(tmp_path, text):
    """What is neither format says so."""
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(known_cameras.CameraError, match="c.json"):
        known_cameras.read_cameras(tmp_path / "c.json", ["a.jpg"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(intrinsics=np.eye(3)), r"\[V, 3, 3\]"),
        (dict(intrinsics=-np.eye(3)[None]), "not positive"),
        (dict(world_from_cam=np.full((1, 4, 4), np.nan)), "finite"),
        (dict(world_from_cam=2 * np.eye(4)[None]), "no rotation"),
    ],
)
def test_impossible_cameras_are_refused(fields, message):
    """Shapes, signs and rotations are checked where they are given."""
    with pytest.raises(known_cameras.CameraError, match=message):
        KnownCameras(**fields)
