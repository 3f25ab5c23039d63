"""Raw RGB-D folders: color, depth, intrinsics and order agree, or the frame is refused."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import color
from data.overlap import Rule
from data.rgbd.choose import choose_scene, plan
from data.rgbd.compare import fingerprint
from data.rgbd.frames import check_frames, encoded_frame
from data.rgbd.layouts import LAYOUTS
from data.rgbd.splits import Splits
from data.schema import (
    CorruptRecord,
    decode_image,
    encode_depth_units,
)
from mvdust3r_jax.media import orientation
from tests.posed_folders import (
    WRITERS,
    box_scene,
    write_plain,
    write_scannetpp,
    write_seven_scenes,
)

SIZE = (48, 64)


def as_read(frame, depth_m):
    """What a choice takes of a frame: all of its depth."""
    return depth_m


PICTURE = (np.add.outer(np.arange(48), 2 * np.arange(64))[..., None] * [1, 1.2, 0.5]).astype(
    np.uint8
)


def encoded(pixels, kind="PNG", tag=1, **options):
    exif = Image.Exif()
    exif[0x0112] = tag
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


def plain_frame(folder, image, depth_size, intrinsics, suffix="png"):
    """The one frame of a plain scene, as its layout lists it."""
    for name in ("rgb", "depth", "pose"):
        (folder / "s" / name).mkdir(parents=True, exist_ok=True)
    (folder / "s/rgb" / f"0.{suffix}").write_bytes(image)
    depth = np.arange(np.prod(depth_size)).reshape(depth_size) + 500
    (folder / "s/depth/0.png").write_bytes(encode_depth_units(depth))
    np.savetxt(folder / "s/pose/0.txt", np.eye(4))
    np.savetxt(folder / "s/intrinsics.txt", intrinsics)
    (frame,), problems = LAYOUTS["plain"].read(folder / "s")
    assert not problems
    return frame


def pinhole(height, width):
    return np.array([[50.0, 0, (width - 1) / 2], [0, 50, (height - 1) / 2], [0, 0, 1]])


@pytest.mark.parametrize("tag", [1, 5, 6, 7, 8])
@pytest.mark.parametrize("lies", ["upright", "as the sensor"])
def test_turned_color_lies_as_the_depth_does(tmp_path, tag, lies):
    """The choice and the build take the frame, and the stored color fits the depth."""
    stored = orientation.stored_array(PICTURE, tag)
    expected = PICTURE if lies == "upright" else stored
    size = expected.shape[:2]
    frame = plain_frame(tmp_path, encoded(stored, tag=tag), size, pinhole(*size))
    good, _, problems = check_frames([frame], as_read)
    assert len(good) == 1 and not problems
    built = encoded_frame(frame)
    seen = decode_image(built.image, "")
    assert seen.shape[:2] == size and np.abs(seen.astype(int) - expected).mean() < 4
    np.testing.assert_allclose(built.intrinsics, pinhole(*size))


@pytest.mark.parametrize(("tag", "size"), [(3, SIZE), (2, SIZE), (4, SIZE), (6, (48, 48))])
def test_turns_that_the_shape_does_not_tell_are_refused(tmp_path, tag, size):
    """By both, with the tag's name and a way out."""
    pixels = PICTURE[: size[0], : size[1]]
    frame = plain_frame(tmp_path, encoded(pixels, tag=tag), size, pinhole(*size))
    good, _, problems = check_frames([frame], as_read)
    assert (
        not good and f"EXIF orientation {tag}" in problems[0] and "without the tag" in problems[0]
    )
    with pytest.raises(CorruptRecord, match=f"EXIF orientation {tag}"):
        encoded_frame(frame)


def test_color_that_fits_is_stored_as_it_is(tmp_path):
    """JPEG and PNG byte for byte; what the reader of stored frames would see otherwise is not."""
    for kind, options in (("JPEG", {"quality": 95}), ("PNG", {})):
        data = encoded(PICTURE, kind, **options)
        frame = plain_frame(tmp_path, data, SIZE, pinhole(*SIZE))
        assert encoded_frame(frame).image == data
    cut_out = np.dstack([PICTURE, np.full(SIZE, 255, np.uint8)])
    cut_out[:10, :, 3] = 0
    frame = plain_frame(tmp_path, encoded(cut_out), SIZE, pinhole(*SIZE))
    seen = decode_image(encoded_frame(frame).image, "")
    assert seen[:8].min() > 240 and np.abs(seen[12:].astype(int) - PICTURE[12:]).mean() < 4


def test_intrinsics_follow_the_depth_to_its_size(tmp_path):
    """ScanNet++: COLMAP's camera is that of the photographs, depth has half the size."""
    scene = box_scene(num_views=2, size=(96, 128))
    write_scannetpp(tmp_path, scene)
    for path in (tmp_path / "room/iphone/render_depth").iterdir():
        path.write_bytes(encode_depth_units(np.full(SIZE, 2000)))
    frames, _ = LAYOUTS["scannetpp"].read(tmp_path / "room")
    half, quarter = scene.intrinsics.copy(), scene.intrinsics.copy()
    for smaller, share in ((half, 0.5), (quarter, 0.25)):
        smaller[[0, 1], [0, 1]] *= share
        smaller[:2, 2] = share * (smaller[:2, 2] + 0.5) - 0.5
    np.testing.assert_allclose(encoded_frame(frames[0]).intrinsics, half)
    np.testing.assert_allclose(check_frames(frames, as_read)[0][0].intrinsics, half)
    np.testing.assert_allclose(encoded_frame(frames[0], short_side=24).intrinsics, quarter)


def test_seven_scenes_without_a_camera_have_the_published_one_at_the_size_of_their_depth(tmp_path):
    """It is of 640 x 480; outer borders of pixels stay where they are."""
    write_seven_scenes(tmp_path, box_scene(num_views=1, size=(240, 320)))
    (tmp_path / "room/camera-intrinsics.txt").unlink()
    (frame,), problems = LAYOUTS["7scenes"].read(tmp_path / "room")
    assert not problems
    expected = [[292.5, 0, 159.75], [0, 292.5, 119.75], [0, 0, 1]]
    np.testing.assert_allclose(encoded_frame(frame).intrinsics, expected)


@pytest.mark.parametrize("factor", [0.5, 1.5, 2.0])
@pytest.mark.parametrize("color_size", [(48, 64), (96, 128)])
def test_intrinsics_of_another_size_are_refused(tmp_path, factor, color_size):
    """A principal point far from the middle of the depth image; nothing is stored silently."""
    pixels = np.asarray(Image.fromarray(PICTURE).resize(color_size[::-1]))
    matrix = pinhole(*SIZE)
    matrix[:2, 2] = factor * (matrix[:2, 2] + 0.5) - 0.5
    frame = plain_frame(tmp_path, encoded(pixels), SIZE, matrix)
    (problem,) = check_frames([frame], as_read)[2]
    assert "the intrinsics belong to an image of another size" in problem


def test_intrinsics_of_the_color_image_are_noticed():
    """Where it is one and a half times as large, the principal point is that of its middle."""
    matrix = pinhole(72, 96)
    with pytest.raises(CorruptRecord, match="another size"):
        color.depth_intrinsics(matrix, None, SIZE, (72, 96))
    off = pinhole(*SIZE)
    off[0, 2] += 10
    np.testing.assert_array_equal(color.depth_intrinsics(off, None, SIZE, SIZE), off)
    with pytest.raises(CorruptRecord, match="intrinsics of size"):
        color.depth_intrinsics(matrix, (96, 72), SIZE, SIZE)


@pytest.mark.parametrize(
    ("row", "values", "flaw"),
    [
        (0, [-50, 0, 31.5], "focal length that is not positive"),
        (1, [0, 0, 23.5], "focal length that is not positive"),
        (0, [50, 3, 31.5], "skew of 3 pixels"),
        (2, [0, 0, 2], "last row is"),
        (0, [0.8, 0, 31.5], r"focal length \(0.8, 50.0\) is far too short"),
    ],
)
def test_intrinsics_that_are_no_cameras_are_named(tmp_path, row, values, flaw):
    """Mirrored, missing, skewed, scaled or in shares of the width: no frame is taken with them."""
    matrix = pinhole(*SIZE)
    matrix[row] = values
    plain_frame(tmp_path, encoded(PICTURE), SIZE, pinhole(*SIZE))
    np.savetxt(tmp_path / "s/intrinsics.txt", matrix)
    frames, problems = LAYOUTS["plain"].read(tmp_path / "s")
    good, _, unreadable = check_frames(frames, as_read)
    assert not good and re.search(flaw, [*problems, *unreadable][0])


def test_endings_in_capitals(tmp_path):
    """Cameras write .JPG and .PNG."""
    for suffix in ("JPG", "PNG"):
        data = encoded(PICTURE, {"JPG": "JPEG"}.get(suffix, suffix))
        frame = plain_frame(tmp_path / suffix, data, SIZE, pinhole(*SIZE), suffix)
        assert encoded_frame(frame).image == data


@pytest.mark.parametrize("layout", ["plain", "7scenes", "scannet", "scannetpp"])
def test_frames_are_in_the_order_of_their_numbers(tmp_path, layout):
    """2 before 10, so that the test's tail lies behind all training frames."""
    WRITERS[layout](tmp_path, box_scene(num_views=12))
    for path in sorted(tmp_path.rglob("*0*.*"), reverse=True):
        digits = path.name.replace("frame-0000", "frame-").replace("frame_0000", "frame_")
        short = digits.replace("frame-0", "frame-").replace("frame_0", "frame_")
        short = short[2:] if short[:2] == "00" else short
        short = short.removeprefix("0") if short[1:2].isdigit() else short
        path.rename(path.with_name(short))
    images = next(iter(tmp_path.rglob("images.txt")), None)
    if images is not None:
        images.write_text(
            images.read_text().replace("frame_00000", "frame_").replace("frame_0000", "frame_")
        )
    train, test = plan(layout, tmp_path, Rule(), splits=Splits(test_tail=0.25))
    names = [[frame.name.strip("frame-_") for frame in task.frames()[0]] for task in (train, test)]
    assert [list(map(int, part)) for part in names] == [list(range(9)), [9, 10, 11]]


@pytest.mark.parametrize("short_side", [0, 24])
def test_frames_with_nothing_in_them_are_refused_by_the_build_too(tmp_path, short_side):
    """They may have become so after the choice; and one known pixel may be lost when reduced."""
    frame = plain_frame(tmp_path, encoded(PICTURE), SIZE, pinhole(*SIZE))
    depth = np.zeros(SIZE)
    for known in (0, 1000 * (short_side > 0)):
        depth[0, 0] = known
        frame.depth.write_bytes(encode_depth_units(depth))
        with pytest.raises(CorruptRecord, match="^0: depth is empty"):
            encoded_frame(frame, short_side)
    frame.depth.write_bytes(encode_depth_units(np.full(SIZE, 1000)))
    frame.image.write_bytes(encoded(0 * PICTURE))
    with pytest.raises(CorruptRecord, match="all black"):
        encoded_frame(frame, short_side)


def test_a_link_that_leads_nowhere_is_a_missing_file(tmp_path):
    """Its frame is listed, and the scene can be told from others."""
    write_plain(tmp_path, box_scene(num_views=3))
    before = fingerprint(tmp_path / "room")
    (tmp_path / "room/rgb/0001.jpg").unlink()
    (tmp_path / "room/rgb/0001.jpg").symlink_to(tmp_path / "nowhere.jpg")
    frames, problems = LAYOUTS["plain"].read(tmp_path / "room")
    assert len(frames) == 2 and "0001.jpg is missing" in problems[0]
    assert fingerprint(tmp_path / "room") != before


def test_hidden_files_are_no_frames(tmp_path):
    """What a Mac leaves beside them."""
    write_plain(tmp_path, box_scene(num_views=3))
    (tmp_path / "room/rgb/._0001.jpg").write_bytes(b"x")
    frames, problems = LAYOUTS["plain"].read(tmp_path / "room")
    assert len(frames) == 3 and not problems
    choice = choose_scene(plan("plain", tmp_path, Rule())[0])
    assert "3 usable frames" in choice.problems[-1]


@pytest.mark.parametrize(
    ("layout", "lost"), [("plain", "rgb/0001.jpg"), ("scannet", "color/1.jpg"), ("plain", "pose")]
)
def test_a_frame_that_lacks_a_part_is_listed(tmp_path, layout, lost):
    """Whichever part it is: color, as well as depth or pose."""
    WRITERS[layout](tmp_path, box_scene(num_views=3))
    ((_, scene),) = LAYOUTS[layout].find(tmp_path).items()
    (path,) = tmp_path.rglob(lost if lost != "pose" else "pose/0001.txt")
    path.unlink()
    frames, problems = LAYOUTS[layout].read(scene)
    assert len(frames) == 2 and len(problems) == 1
    assert path.name in problems[0]


@pytest.mark.parametrize("layout", WRITERS)
def test_the_root_may_be_where_one_stands(tmp_path, monkeypatch, layout):
    """A scene has its folder's name, however the way there is written."""
    WRITERS[layout](tmp_path, box_scene(num_views=2))
    (scene,) = LAYOUTS[layout].find(tmp_path).values()
    (scene / "below").mkdir()
    for place, root in ((scene, "."), (scene / "below", "..")):
        monkeypatch.chdir(place)
        assert list(LAYOUTS[layout].find(Path(root))) == ["room"]


def test_endings_in_capitals_are_the_same_files(tmp_path):
    """Of depth as of color."""
    frame = plain_frame(tmp_path, encoded(PICTURE), SIZE, np.diag([60.0, 60, 1]))
    for path in (frame.image, frame.depth):
        path.rename(path.with_suffix(".PNG"))
    (frame,), problems = LAYOUTS["plain"].read(tmp_path / "s")
    assert not problems and (frame.image.name, frame.depth.name) == ("0.PNG", "0.PNG")
