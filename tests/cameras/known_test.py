"""Cameras of files: whichever program wrote them, they are those of the upright photographs."""

import json
import re
import unicodedata

import numpy as np
import pytest
from PIL import Image

from mvdust3r_jax.cameras.entries import CameraError
from mvdust3r_jax.cameras.known import KnownCameras, read_cameras
from mvdust3r_jax.media import orientation
from mvdust3r_jax.media.picture import Header
from tests.cameras import camera_files
from tests.cameras.camera_files import poses, transforms, write_colmap_text, write_json

NAMES = ["a.jpg", "b.jpg", "c.jpg"]
POSES = poses(3)
FIELDS = {"fl_x": 200.0, "fl_y": 201.0, "cx": 32.0, "cy": 24.0, "w": 64, "h": 48}
WRITERS = [camera_files.write_colmap_text, camera_files.write_colmap_binary]


def test_windows_paths_and_marks(tmp_path):
    """Backslashes, drive letters, byte-order marks and UTF-16: the same cameras."""
    names = ["images/left/0001.jpg", "images/right/0001.jpg"]
    plain = transforms(POSES[:2], names, **FIELDS)
    plain["frames"][1]["fl_x"] = 210.0
    windows = json.loads(json.dumps(plain))
    for frame in windows["frames"]:
        frame["file_path"] = "C:\\data\\" + frame["file_path"].replace("/", "\\")
    for content in (plain, windows):
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            (tmp_path / "t.json").write_text(json.dumps(content), encoding)
            known = read_cameras(tmp_path / "t.json", ["/x/left/0001.png", "/x/right/0001.png"])
            np.testing.assert_allclose(known.intrinsics[:, 0, 0], [200, 210])
            np.testing.assert_allclose(known.world_from_cam, POSES[:2], atol=1e-12)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_composed_and_decomposed_letters_are_the_same(tmp_path, form):
    """Names of a Mac's disk in a file of another system, and the other way round; folders too."""
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    names = ["süd/café_0.jpg", "nörd/café_0.jpg"]
    content = transforms(POSES[:2], [unicodedata.normalize(form, name) for name in names], **FIELDS)
    content["frames"][1]["fl_x"] = 210.0
    path = write_json(tmp_path / "t.json", content)
    known = read_cameras(path, [unicodedata.normalize(other, name) for name in names])
    np.testing.assert_allclose(known.intrinsics[:, 0, 0], [200, 210])


@pytest.mark.parametrize(
    "given, written",
    [
        (["x/a/1.jpg", "x/b/1.jpg"], ["a_1.jpg", "b_1.jpg"]),
        (["x/a/1.jpg", "y/a/1.jpg"], ["0000_a_1.jpg", "0001_a_1.jpg"]),
        # Distinct, but no longer without their white space.
        (["a b.jpg", "a_b.jpg"], ["0000_a_b.jpg", "0001_a_b.jpg"]),
        # What some disks refuse, or take for one.
        (["10:20.jpg", "con.png"], ["10_20.jpg", "_con.png"]),
        (["CON.jpg", "con.jpg"], ["0000__CON.jpg", "0001__con.jpg"]),
    ],
)
def test_names_that_were_made_distinct_are_found_again(tmp_path, given, written):
    """Of photographs of one name: our exports have their folder's name before it, or a number."""
    content = transforms(POSES[:2], written, **FIELDS)
    content["frames"][1]["fl_x"] = 210.0
    known = read_cameras(write_json(tmp_path / "t.json", content), given)
    np.testing.assert_allclose(known.intrinsics[:, 0, 0], [200, 210])


def test_a_camera_told_twice_is_one(tmp_path):
    """As in two splits that a converter copied; two different cameras of a name are asked back."""
    content = transforms(POSES[:2], ["./t/a.png"] * 2, **FIELDS)
    (tmp_path / "transforms_train.json").write_text(json.dumps(content))
    with pytest.raises(CameraError, match="may be any of"):
        read_cameras(tmp_path, ["t/a.png"])
    content["frames"] = content["frames"][:1]
    for split in ("train", "val"):
        write_json(tmp_path / f"transforms_{split}.json", content)
    np.testing.assert_allclose(read_cameras(tmp_path, ["t/a.png"]).world_from_cam[0], POSES[0])


@pytest.mark.parametrize("focal", [0.78, 4.2, 28.0, 1e9])
def test_focal_lengths_that_are_no_pixels_are_asked_back(focal):
    """Shares of the width and millimeters, for a photograph of 4000 x 3000 pixels."""
    known = KnownCameras(intrinsics=[[[focal, 0, 2000], [0, focal, 1500], [0, 0, 1]]])
    with pytest.raises(
        CameraError, match=re.escape(f"{focal:.4g}") + " pixels for a.jpg of 4000 x 3000 .*field of"
    ) as e:
        known.intrinsics_of(0, (3000, 4000), "a.jpg")
    assert "not in millimeters" in e.value.__notes__[0]


def test_masks_that_a_file_names_are_told(tmp_path):
    """They are not taken from it, and it is not passed over in silence."""
    content = transforms(POSES, NAMES, **FIELDS)
    path = write_json(tmp_path / "t.json", content)
    assert not read_cameras(path, NAMES).left_out
    content["frames"][1]["mask_path"] = "masks/b.png"
    assert "names masks" in read_cameras(write_json(path, content), NAMES).left_out[0]


def test_cameras_may_be_lists():
    """They are arrays afterwards, and checked as such."""
    intrinsics = np.diag([64.0, 64.0, 1.0])[None].tolist()
    given = {"intrinsics": intrinsics, "world_from_cam": [np.eye(4)]}
    known = KnownCameras(**given, image_sizes=[(48, 64)])
    assert known.intrinsics.shape == (1, 3, 3) and known.world_from_cam.shape == (1, 4, 4)
    assert known.intrinsics_of(0, (96, 128), "a")[0, 0] == 128
    with pytest.raises(CameraError, match=r"intrinsics \[V, 3, 3\] is expected, got \(3, 3\)"):
        KnownCameras(intrinsics=np.eye(3).tolist())


def test_cameras_are_float64():
    """A survey's coordinates take it, whatever they were given as."""
    known = KnownCameras(np.eye(3, dtype=np.float32)[None], np.eye(4, dtype=int)[None])
    assert known.intrinsics.dtype == known.world_from_cam.dtype == np.float64


@pytest.mark.parametrize("field", ["world_from_cam", "image_sizes"])
def test_cameras_of_different_numbers_of_views_are_refused(field):
    """The error quotes the numbers."""
    more = {"world_from_cam": np.tile(np.eye(4), (3, 1, 1)), "image_sizes": [(48, 64)] * 3}
    with pytest.raises(CameraError, match=f"2 intrinsics, 3 {field}"):
        KnownCameras(np.tile(np.eye(3), (2, 1, 1)), **{field: more[field]})


def test_field_of_view_holds_whatever_the_size(tmp_path):
    """Without w and h it is that of the photograph; the principal point is its middle."""
    path = write_json(
        tmp_path / "t.json", transforms(POSES, ["./train/a", "./train/b", "./train/c"])
    )
    content = json.loads(path.read_text()) | {"camera_angle_x": 0.8}
    write_json(path, content)
    headers = [Header("PNG", size, 1) for size in [(48, 64), (96, 128), (30, 100)]]
    known = read_cameras(path, NAMES, headers=headers)
    widths = np.array([64, 128, 100])
    np.testing.assert_allclose(known.intrinsics[:, 0, 0], 0.5 * widths / np.tan(0.4))
    np.testing.assert_allclose(known.intrinsics[:, 1, 1], known.intrinsics[:, 0, 0])
    np.testing.assert_allclose(known.intrinsics[:, 0, 2], (widths - 1) / 2)
    np.testing.assert_allclose(known.intrinsics[:, 1, 2], [23.5, 47.5, 14.5])
    write_json(path, content | {"camera_angle_y": 0.6})
    known = read_cameras(path, NAMES, headers=headers)
    np.testing.assert_allclose(known.intrinsics[:, 1, 1], np.array([24, 48, 15]) / np.tan(0.3))
    assert read_cameras(path, NAMES).intrinsics is None
    write_json(path, content | {"cx": 20.5})
    known = read_cameras(path, NAMES, headers=headers)
    np.testing.assert_allclose(known.intrinsics[:, 0, 2], 20)
    np.testing.assert_allclose(known.intrinsics[:, 1, 2], [23.5, 47.5, 14.5])


def test_names_of_colmap_may_look_like_points(tmp_path):
    """Without lines of points, and with numbers that make an image's line as long as one."""
    names = ["frame 1 2.png", "frame 3 4", "frame 5 6"]
    write_colmap_text(tmp_path, POSES, names, (48, 64))
    lines = (tmp_path / "images.txt").read_text().splitlines()
    lines = [line for line in lines if "frame" in line or line.startswith("#")]
    (tmp_path / "images.txt").write_text("\n".join(lines) + "\n")
    known = read_cameras(tmp_path, [f"{name.removesuffix('.png')}.png" for name in names])
    np.testing.assert_allclose(known.world_from_cam, POSES, atol=1e-9)


def test_photographs_that_are_files_tell_their_size(tmp_path):
    """No header has to be given for them."""
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    content = transforms(POSES[:1], ["train/a"], camera_angle_x=0.8)
    path = write_json(tmp_path / "t.json", content)
    known = read_cameras(path, [str(tmp_path / "a.png")])
    np.testing.assert_allclose(known.intrinsics[0, 0, 0], 32 / np.tan(0.4))


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("place", [".", "sparse/0", "sparse", "colmap/sparse/0"])
def test_colmap_models(tmp_path, write, place):
    """Text and binary, in the folder or where COLMAP's programs put it; names may hold spaces."""
    names = ["left/a b.jpg", "right/a b.jpg", "c é.jpg"]
    write(tmp_path / place, POSES, names, (48, 64))
    known = read_cameras(tmp_path, [f"/data/{name}" for name in names])
    np.testing.assert_allclose(known.world_from_cam, POSES, atol=1e-12)
    expected = [[70, 0, 32.5], [0, 71, 23.5], [0, 0, 1]]
    np.testing.assert_allclose(known.intrinsics, np.tile(expected, (3, 1, 1)))
    assert known.image_sizes.tolist() == [[48, 64]] * 3


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("model", "params", "flaw"),
    [
        ("SIMPLE_RADIAL", (70, 33, 24, 0.0), None),
        ("SIMPLE_RADIAL", (70, 33, 24, 0.1), "k = 0.1"),
        ("OPENCV", (70, 70, 33, 24, 0, 0, 0.01, 0), "p1 = 0.01"),
        ("OPENCV_FISHEYE", (70, 70, 33, 24, 0, 0, 0, 0), "the camera model OPENCV_FISHEYE"),
        ("DIVISION", (70, 70, 33, 24, 0.1), "k = 0.1"),
        ("FISHEYE", (70, 70, 33, 24), "the camera model FISHEYE"),
        ("EUCM", (70, 70, 33, 24, 0.5, 1.0), "the camera model EUCM"),
        ("EQUIRECTANGULAR", (64, 48), "the camera model EQUIRECTANGULAR"),
    ],
)
def test_lenses_of_colmap(tmp_path, write, model, params, flaw):
    """Pinhole cameras pass, whatever their model is called; others give their poses only."""
    write(tmp_path, POSES, NAMES, (48, 64), model, params)
    if flaw is None:
        assert read_cameras(tmp_path, NAMES).intrinsics[0, 1, 1] == 70
    else:
        with pytest.raises(CameraError, match=flaw):
            read_cameras(tmp_path, NAMES)
    assert read_cameras(tmp_path, NAMES, "poses").world_from_cam.shape == (3, 4, 4)


@pytest.mark.parametrize("write", WRITERS)
def test_impossible_sizes_of_colmap_are_named(tmp_path, write):
    """More pixels a side than any image has; found by the fuzz test."""
    write(tmp_path, POSES, NAMES, (48, 2**60))
    with pytest.raises(CameraError, match=r"cameras.*WIDTH = 1152921504606846976"):
        read_cameras(tmp_path, NAMES)


def test_folders_with_several_models_or_none(tmp_path):
    """It is asked which; what was looked for is told."""
    for number in ("0", "1"):
        camera_files.write_colmap_text(tmp_path / "sparse" / number, POSES, NAMES, (48, 64))
    with pytest.raises(CameraError, match=r"several models: give one of .*sparse/0.*sparse/1"):
        read_cameras(tmp_path, NAMES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CameraError, match=r"holds no cameras: expected cameras.json"):
        read_cameras(tmp_path / "empty", NAMES)


def test_folders_with_json_files(tmp_path):
    """One transforms.json, or those of NeRF's splits together."""
    for split, i in (("train", 0), ("test", 1), ("val", 2)):
        content = transforms(POSES[i : i + 1], [f"./{split}/{NAMES[i][0]}"], **FIELDS)
        write_json(tmp_path / f"transforms_{split}.json", content)
    np.testing.assert_allclose(read_cameras(tmp_path, NAMES).world_from_cam, POSES, atol=1e-12)


@pytest.mark.parametrize("form", ["cut", "missing camera", "model number"])
@pytest.mark.parametrize("kind", ["text", "binary"])
def test_damaged_models_are_named(tmp_path, kind, form):
    """One line that names the file; never a camera of garbage."""
    write = getattr(camera_files, f"write_colmap_{kind}")
    write(tmp_path, POSES, NAMES, (48, 64))
    images, cameras = (next(tmp_path.glob(f"{part}.*")) for part in ("images", "cameras"))
    if form == "cut":
        images.write_bytes(images.read_bytes()[:-90])
    elif form == "missing camera":
        data = cameras.read_bytes()
        cameras.write_bytes(
            data.replace(b"7 PIN", b"8 PIN").replace(b"\7\0\0\0\1", b"\x08\0\0\0\1")
        )
    else:
        data = cameras.read_bytes()
        cameras.write_bytes(
            data.replace(b"PINHOLE", b"PEEPHOLE").replace(b"\7\0\0\0\1", b"\7\0\0\0c")
        )
    with pytest.raises(CameraError, match=rf"{tmp_path}.*(images|cameras|PEEPHOLE|c\.jpg|b\.jpg)"):
        read_cameras(tmp_path, NAMES)


# ---------------------------------------------------------------- turned photographs


@pytest.mark.parametrize("tag", [1, 6, 8])
@pytest.mark.parametrize("scale", [1, 2])
def test_cameras_of_stored_pixels_are_turned(tmp_path, tag, scale):
    """A point that the file's camera sees at a stored pixel is seen at that pixel, turned."""
    upright = orientation.upright_size((48 * scale, 64 * scale), tag)
    path = write_json(tmp_path / "t.json", transforms(POSES[:1], ["a.jpg"], **FIELDS))
    known = read_cameras(path, ["a.jpg"], headers=[Header("JPEG", upright, tag)])
    intrinsics = known.intrinsics_of(0, upright, "a.jpg")
    depth, stored = 3.0, np.array([10.0, 7.0, 1.0])
    of_file = np.array([[200, 0, 31.5], [0, 201, 23.5], [0, 0, 1]])
    world = POSES[0] @ [*(depth * np.linalg.inv(of_file) @ stored), 1]
    seen = intrinsics @ (np.linalg.inv(known.world_from_cam[0]) @ world)[:3]
    stored[:2] = scale * (stored[:2] + 0.5) - 0.5
    expected = orientation.upright_from_stored(tag, (48 * scale, 64 * scale)) @ stored
    np.testing.assert_allclose(seen / depth, expected, atol=1e-9)


@pytest.mark.parametrize("use", ["all", "poses", "intrinsics"])
def test_cameras_of_upright_photographs_stay(tmp_path, use):
    """The size in the file is that of the turned photograph."""
    fields = FIELDS | {"w": 48, "h": 64}
    path = write_json(tmp_path / "t.json", transforms(POSES, NAMES, **fields))
    headers = [Header("JPEG", (64, 48), 6)] * 3
    known, plain = (read_cameras(path, NAMES, use, h) for h in (headers, None))
    for field in ("intrinsics", "world_from_cam"):
        np.testing.assert_array_equal(getattr(known, field), getattr(plain, field))


@pytest.mark.parametrize(
    ("header", "fields", "message"),
    [
        (Header("JPEG", (48, 64), 3), FIELDS, "EXIF orientation .3."),
        (Header("JPEG", (64, 64), 6), FIELDS | {"w": 64, "h": 64}, "does not say which"),
        (Header("JPEG", (64, 48), 6), {"camera_angle_x": 0.8}, "not in the file"),
        (Header("JPEG", (64, 48), 5), FIELDS, "mirrored pixels"),
    ],
)
def test_cameras_that_may_be_of_either_are_refused(tmp_path, header, fields, message):
    """Upside down, square, of unknown size; mirrored ones have no pose at all."""
    path = write_json(tmp_path / "t.json", transforms(POSES, NAMES, **fields))
    with pytest.raises(CameraError, match=message):
        read_cameras(path, NAMES, headers=[header] * 3)


def test_our_own_file_is_about_the_upright_photograph(tmp_path):
    """Whatever the tag of the photograph."""
    view = {"name": "a.jpg", "world_from_cam": POSES[0].tolist()}
    view["original"] = {"intrinsics": np.diag([9.0, 9, 1]).tolist(), "width": 64, "height": 48}
    path = write_json(tmp_path / "cameras.json", {"views": [view]})
    known = read_cameras(path, ["a.jpg"], headers=[Header("JPEG", (48, 64), 3)])
    np.testing.assert_array_equal(known.world_from_cam[0], POSES[0])


# ---------------------------------------------------------------- values that are no camera's


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("transform_matrix", np.full((4, 4), np.nan).tolist(), "not finite numbers"),
        ("transform_matrix", np.diag([1.0, 1, 0, 1]).tolist(), "singular"),
        ("transform_matrix", np.diag([2.0, 2, 2, 1]).tolist(), "determinant"),
        ("transform_matrix", np.diag([1.0, 1, -1, 1]).tolist(), "determinant"),
        ("transform_matrix", np.eye(3).tolist(), "shape"),
        ("fl_x", float("inf"), "not finite numbers"),
        ("fl_x", -1, "not positive"),
        ("cy", float("nan"), "not finite numbers"),
        ("w", float("nan"), "w = nan"),
        ("h", -5, "h = -5"),
        ("camera_angle_x", 4.0, "camera_angle_x = 4.0"),
        ("distortion_params", [0, 0.1], r"distortion_params\[1\] = 0.1"),
    ],
)
def test_impossible_values_are_refused_by_name(tmp_path, field, value, message):
    """File, frame and field."""
    content = transforms(POSES, NAMES, **FIELDS)
    content["frames"][1][field] = value
    path = write_json(tmp_path / "t.json", content)
    with pytest.raises(CameraError, match=f"t.json.*{message}") as told:
        read_cameras(path, NAMES)
    assert "b.jpg" in str(told.value) or field in str(told.value)


def test_poses_of_three_rows_are_whole(tmp_path):
    """Some programs leave out the row 0 0 0 1."""
    content = transforms(POSES, NAMES, **FIELDS)
    for frame in content["frames"]:
        del frame["transform_matrix"][3]
    known = read_cameras(write_json(tmp_path / "t.json", content), NAMES)
    np.testing.assert_allclose(known.world_from_cam, POSES, atol=1e-12)


def test_a_survey_keeps_its_millimeters(tmp_path):
    """Coordinates of millions come back as they are written."""
    far = poses(3, far=(4.5e5, 5.4e6, 120.0))
    path = write_json(tmp_path / "t.json", transforms(far, NAMES, **FIELDS))
    np.testing.assert_allclose(read_cameras(path, NAMES).world_from_cam, far, rtol=0, atol=1e-8)
    camera_files.write_colmap_text(tmp_path, far, NAMES, (48, 64))
    path.unlink()
    np.testing.assert_allclose(read_cameras(tmp_path, NAMES).world_from_cam, far, rtol=0, atol=1e-6)
