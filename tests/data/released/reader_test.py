"""Frames as the published files name them."""

import json

import h5py
import numpy as np
import pytest

from data.released.builder import list_files
from data.released.reader import FrameKey, PathMap, _depth
from data.schema import CorruptRecord, decode_depth_units, encode_depth_units


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
