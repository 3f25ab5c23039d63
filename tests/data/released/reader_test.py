"""Frames as the published files name them."""

import json

import h5py
import numpy as np
import pytest

from data.released.builder import list_files
from data.released.reader import FrameKey, PathMap, _depth, load_frame, read_strings
from data.schema import CorruptRecord, decode_depth_units, encode_depth_units, encode_jpeg


def test_no_measurement_is_unknown_in_published_files_too(tmp_path):
    """Some recorders write 65535; a wall in 65 m it is not."""
    units = np.array([[1000, 65535], [0, 2000]], np.uint16)
    (tmp_path / "d.png").write_bytes(encode_depth_units(units))
    key = FrameKey("i.jpg", "d.png", (), ())
    data, size = _depth(tmp_path / "d.png", key)
    assert size == (2, 2) and decode_depth_units(data, "d").tolist() == [[1000, 0], [0, 2000]]


def listed(tmp_path, *texts):
    """What is listed of a file with these entries; `ENTRY` is a good one."""
    with h5py.File(tmp_path / "t.hdf5", "w") as stored:
        stored["json_strs"] = np.array([text.encode() for text in texts], "S2000")
    return list_files({"train": tmp_path / "t.hdf5"}, PathMap(tmp_path))


ENTRY = {"scene_name": "s", "rgb_list": ["i.jpg"], "depth_list": ["d.png"]}
ENTRY |= {"pose_raw_list": [np.eye(4).tolist()], "intrinsic_raw": np.eye(3).tolist()}


@pytest.mark.parametrize(
    "changes",
    [
        {"pose_raw_list": [np.eye(4)[:2].tolist()]},
        {"pose_raw_list": ["a"]},
        {"intrinsic_raw": np.eye(2).tolist()},
        {"intrinsic_raw": (np.eye(3) * np.nan).tolist()},
        {"intrinsic_raw": (-np.eye(3)).tolist()},
        {"nv": "many"},
        {"nv": -1},
        None,
    ],
)
def test_malformed_entries_are_passed_over(tmp_path, changes):
    """Each is a line of the problems, with its number; the entries around it are kept."""
    good = json.dumps(ENTRY)
    listing = listed(tmp_path, good, "{" if changes is None else json.dumps(ENTRY | changes), good)
    assert len(listing.trajectories["train"]["s"]) == 2
    assert len(listing.problems) == 1 and "t.hdf5, entry 1: " in listing.problems[0]


@pytest.mark.parametrize("content", [b"", b"PK", np.zeros(5), np.zeros((2, 3, 4)), np.array("a")])
def test_depth_that_is_no_map_is_a_corrupt_record(tmp_path, content):
    """Empty and damaged files, and arrays of other than two dimensions, by their name."""
    if isinstance(content, bytes):
        (tmp_path / "d.npy").write_bytes(content)
    else:
        np.save(tmp_path / "d.npy", content)
    with pytest.raises(CorruptRecord, match="d.npy"):
        _depth(tmp_path / "d.npy", FrameKey("i.jpg", "d.npy", (), ()))


@pytest.mark.parametrize(
    ("name", "depth", "told"),
    [
        ("d.npy", np.full((2, 2), 2000, np.uint16), "floating-point depth in meters.* uint16"),
        ("d.npy", np.full((2, 2), 2000.0), "in meters, from 0.001 to 65.535, found 2000 to 2000"),
        ("d.npy", np.array([[0, -1], [np.nan, np.inf]]), "depth is empty"),
        ("d.png", np.array([[0, 65535]]), "depth is empty"),
    ],
)
def test_depth_of_which_nothing_is_known_is_a_corrupt_record(tmp_path, name, depth, told):
    """Millimeters where meters are expected, and maps without any measurement."""
    if name == "d.png":
        (tmp_path / name).write_bytes(encode_depth_units(depth))
    else:
        np.save(tmp_path / name, depth)
    with pytest.raises(CorruptRecord, match=f"{name}: .*{told}"):
        _depth(tmp_path / name, FrameKey("i.jpg", name, (), ()))


def test_an_empty_part_of_a_wide_image_is_named(tmp_path):
    """The views beside it are taken."""
    np.save(tmp_path / "d.npy", np.array([[1.0, 2, 0, 0]] * 2))
    keys = [FrameKey("i.jpg", "d.npy", (), (), column, 2) for column in (0, 1)]
    assert _depth(tmp_path / "d.npy", keys[0])[1] == (2, 2)
    with pytest.raises(CorruptRecord, match="d.npy, view 1: depth is empty"):
        _depth(tmp_path / "d.npy", keys[1])


def test_a_black_image_is_a_corrupt_record(tmp_path):
    """As of RGB-D folders."""
    (tmp_path / "i.jpg").write_bytes(encode_jpeg(np.zeros((8, 8, 3), np.uint8)))
    (tmp_path / "d.png").write_bytes(encode_depth_units(np.full((8, 8), 1000)))
    intrinsics = (8.0, 0.0, 3.5, 0.0, 8.0, 3.5, 0.0, 0.0, 1.0)
    key = FrameKey("i.jpg", "d.png", tuple(np.eye(4).ravel()), intrinsics)
    with pytest.raises(CorruptRecord, match=r"i.jpg: the image is empty \(all black\)"):
        load_frame(key, "i", PathMap(tmp_path))


def test_files_that_cannot_be_opened_are_corrupt_records(tmp_path):
    """One that went away after it was found, and a name too long for the disk."""
    with pytest.raises(CorruptRecord, match="d.png: No such file"):
        _depth(tmp_path / "d.png", FrameKey("i.jpg", "d.png", (), ()))
    with pytest.raises(CorruptRecord, match="no file of this name below"):
        PathMap(tmp_path)(300 * "x")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("cut", "is cut off or no HDF5 file"),
        (b"x", "expected a data set 'json_strs' of strings"),
        (np.arange(3), "expected a data set 'json_strs' of strings"),
        (None, "expected a data set 'json_strs' of strings"),
    ],
)
def test_files_that_hold_no_entries_are_named(tmp_path, content, told):
    """Damaged ones, and other things under the name of the data set."""
    path = tmp_path / "t.h5"
    with h5py.File(path, "w") as stored:
        if content is None:
            stored.create_group("json_strs")
        else:
            stored["json_strs"] = content
    if isinstance(content, str):
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptRecord, match=f"t.h5.*{told}"):
        list(read_strings(path))


def test_a_file_of_entries_that_is_not_there_is_named(tmp_path):
    """A folder too, in one line."""
    for path in (tmp_path, tmp_path / "nowhere.h5"):
        with pytest.raises(FileNotFoundError, match=f"{path} is no file"):
            list(read_strings(path))
