"""What other programs write into camera files beside the usual: read as they mean it, or named."""

import numpy as np
import pytest

from mvdust3r_jax.cameras.entries import CameraError
from mvdust3r_jax.cameras.known import KnownCameras, read_cameras
from mvdust3r_jax.media.picture import Header
from tests.cameras import camera_files
from tests.cameras.camera_files import poses, transforms, write_json

NAMES = ["a.jpg", "b.jpg", "c.jpg"]
POSES = poses(3)
FIELDS = {"fl_x": 200.0, "fl_y": 201.0, "cx": 32.0, "cy": 24.0, "w": 64, "h": 48}


@pytest.mark.parametrize("before", ["", "\n"])
@pytest.mark.parametrize("points", ["", "\n", "1 2 -1\n", "1 2 -1\n\n", 4 * "1.5 2 -1 " + "\n"])
def test_blank_and_missing_lines_of_colmap(tmp_path, before, points):
    """Lines of points may be empty, left out or followed by blank ones."""
    names = ["a b c.jpg", "001", "c.jpg"]
    camera_files.write_colmap_text(tmp_path, POSES, names, (48, 64))
    rows = (tmp_path / "images.txt").read_text().splitlines()
    text = "".join(f"{row}\n{points}" for row in rows[1::2])
    (tmp_path / "images.txt").write_text(f"{rows[0]}\n{before}{text}")
    known = read_cameras(tmp_path, names)
    np.testing.assert_allclose(known.world_from_cam, POSES, atol=1e-12)


def test_field_of_view_in_degrees(tmp_path):
    """instant-ngp's x_fov and y_fov, with and without the size."""
    degrees = {"x_fov": 60.0, "y_fov": 40.0}
    radians = {f"camera_angle_{axis}": np.deg2rad(degrees[f"{axis}_fov"]) for axis in "xy"}
    headers = [Header("PNG", (48, 64), 1)] * 3
    for size in ({}, {"w": 64, "h": 48}):
        known = [
            read_cameras(
                write_json(tmp_path / "t.json", transforms(POSES, NAMES, **fields, **size)),
                NAMES,
                headers=headers,
            )
            for fields in (degrees, radians)
        ]
        np.testing.assert_allclose(known[0].intrinsics, known[1].intrinsics)
    write_json(tmp_path / "t.json", transforms(POSES, NAMES, x_fov=180.0))
    with pytest.raises(CameraError, match="x_fov = 180.0, expected degrees between 0 and 180"):
        read_cameras(tmp_path / "t.json", NAMES)


@pytest.mark.parametrize("lens", [{"latlong": True}, {"equirectangular": True}, {"ftheta_p0": 0.0}])
def test_lenses_of_instant_ngp(tmp_path, lens):
    """Panoramas and f-theta are no pinhole images, whatever focal length stands beside."""
    path = write_json(tmp_path / "t.json", transforms(POSES, NAMES, **FIELDS, **lens))
    with pytest.raises(CameraError, match=f"a.jpg has the camera model {next(iter(lens))[:6]}"):
        read_cameras(path, NAMES)
    assert read_cameras(path, NAMES, "poses").world_from_cam.shape == (3, 4, 4)
    path = write_json(path, transforms(POSES, NAMES, **FIELDS, **dict.fromkeys(lens)))
    assert read_cameras(path, NAMES).intrinsics is not None


def test_other_json_is_named(tmp_path):
    """With what is wrong with it."""
    cases = [("text", "got a str"), (None, "got a NoneType"), ([], "got a list without entries")]
    cases += [([{"id": 0, "img_name": "a", "fx": 70.0}], "KeyError")]
    for content, message in cases:
        path = write_json(tmp_path / "cameras.json", content)
        with pytest.raises(CameraError, match=message):
            read_cameras(path, NAMES)


def test_cameras_beside_trained_splats(tmp_path):
    """A list of camera-to-world poses, names without endings; the center is the middle."""
    cameras = [
        {"id": i, "img_name": name[:-4], "width": 64, "height": 48, "fx": 70.0, "fy": 71.0}
        | {"position": pose[:3, 3].tolist(), "rotation": pose[:3, :3].tolist()}
        for i, (name, pose) in enumerate(zip(NAMES, POSES, strict=True))
    ]
    write_json(tmp_path / "cameras.json", cameras)
    known = read_cameras(tmp_path, NAMES)
    np.testing.assert_allclose(known.world_from_cam, POSES)
    expected = [[70, 0, 31.5], [0, 71, 23.5], [0, 0, 1]]
    np.testing.assert_allclose(known.intrinsics, np.tile(expected, (len(NAMES), 1, 1)))


@pytest.mark.parametrize("name", ["images.txt", "cameras.txt"])
def test_a_file_of_a_model_stands_for_it(tmp_path, name):
    """Where COLMAP's own programs take the folder."""
    camera_files.write_colmap_text(tmp_path, POSES, NAMES, (48, 64))
    np.testing.assert_allclose(
        read_cameras(tmp_path / name, NAMES).world_from_cam, POSES, atol=1e-9
    )


@pytest.mark.parametrize(
    ("matrix", "flaw"),
    [
        ([[70, 0, 0], [0, 70, 0], [32, 24, 1]], r"last row is \[32.0, 24.0, 1.0\], expected 0 0 1"),
        ([[70, 5, 32], [0, 70, 24], [0, 0, 1]], r"skew of 5 pixels"),
    ],
)
def test_intrinsics_of_another_form_are_named(matrix, flaw):
    """Transposed (column by column), or with axes that are not square to each other."""
    with pytest.raises(CameraError, match=f"intrinsics of view 0: .*{flaw}"):
        KnownCameras(intrinsics=np.array([matrix], float))


@pytest.mark.parametrize("factor", [0.5, 1.5, 2.0])
def test_intrinsics_of_an_untold_size_are_asked_back(tmp_path, factor):
    """A principal point far from the photograph's middle; with the size told it is what it says."""
    fields = {"fl_x": 60 * factor, "cx": 32 * factor, "cy": 24 * factor}
    path = write_json(tmp_path / "t.json", transforms(POSES, NAMES, **fields))
    with pytest.raises(CameraError, match=r"far from the middle of a.jpg of 64 x 48 pixels"):
        read_cameras(path, NAMES).intrinsics_of(0, (48, 64), "a.jpg")
    size = {"w": int(64 * factor), "h": int(48 * factor)}
    write_json(path, transforms(POSES, NAMES, **fields, **size))
    scaled = read_cameras(path, NAMES).intrinsics_of(0, (48, 64), "a.jpg")
    np.testing.assert_allclose(scaled, [[60, 0, 31.5], [0, 60, 23.5], [0, 0, 1]])
