"""Splits of RGB-D data sets are made of rooms, and what is wrong with them is told."""

import pytest

from data.overlap import Rule
from data.rgbd.choose import plan
from data.rgbd.layouts import LAYOUTS
from data.rgbd.splits import Splits
from mvdust3r_jax.evaluation.rooms import room_of_scan

SCANS = {f"scene{room:04d}_{scan:02d}": f"scene{room:04d}" for room in range(9) for scan in (0, 1)}


@pytest.mark.parametrize(
    "scan, room",
    [
        ("scene0707_02", "scene0707"),
        ("scans/scene0707_02", "scans/scene0707"),
        ("chess/seq-03", "chess"),
        ("seq-03", "seq-03"),
        ("a1b2_01", "a1b2_01"),
    ],
)
def test_scans_of_one_room_are_known_by_their_names(scan, room):
    assert room_of_scan(scan) == room


@pytest.mark.parametrize("root", ["chess", "."], ids=["the room's folder", "that above"])
def test_sequences_of_7_scenes_are_named_with_their_room(tmp_path, root):
    """Also if only one room is there: its sequences would seem to be rooms of their own."""
    for sequence in ("seq-01", "seq-02"):
        folder = tmp_path / "chess" / sequence
        folder.mkdir(parents=True)
        (folder / "frame-000000.pose.txt").touch()
    found = LAYOUTS["7scenes"].find(tmp_path / root)
    assert list(found) == ["chess/seq-01", "chess/seq-02"]
    with pytest.raises(ValueError, match="validation and test tails"):
        plan("7scenes", tmp_path / root, Rule(), splits=Splits(validation_share=0.25))


@pytest.mark.parametrize("seed", range(5))
def test_no_room_is_in_two_splits(seed):
    """Drawn shares: scans of a room stay together, and every split has its share of the rooms."""
    where = Splits(test_share=0.2, validation_share=0.1).of_scenes(SCANS, seed)
    rooms = {s: {SCANS[n] for n in SCANS if where[n] == s} for s in set(where.values())}
    assert {split: len(names) for split, names in rooms.items()} == {
        "train": 6,
        "validation": 1,
        "test": 2,
    }
    assert sum(len(names) for names in rooms.values()) == len(set(SCANS.values()))


def test_a_named_scan_takes_its_room_along():
    """What is tested on is never trained on through another scan."""
    where = Splits(test_scenes=["scene0003_01"], validation_scenes=["scene0001_00"]).of_scenes(
        SCANS, 0
    )
    assert where["scene0003_00"] == "test" and where["scene0001_01"] == "validation"
    assert where["scene0000_00"] == "train"


def test_frames_of_one_room_are_cut_at_its_end():
    """Train, validation and test one after the other, all frames once."""
    parts = Splits(validation_tail=0.1, test_tail=0.2).of_frames()
    assert [name for name, *_ in parts] == ["train", "validation", "test"]
    assert [parts[0][1], *(end for *_, end in parts)] == pytest.approx([0, 0.7, 0.8, 1])
    assert Splits().of_frames() == [("train", 0.0, 1)]


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"test_scenes": ["scene0001_00"], "validation_scenes": ["scene0001_01"]}, "another split"),
        ({"test_scenes": ["nowhere"]}, "not among"),
        ({"test_share": 0.99}, "nothing is left"),
        ({"test_share": 0.6, "validation_share": 0.5}, "below 1 together"),
        ({"test_tail": -0.1}, "at least 0"),
    ],
)
def test_splits_that_cannot_be_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        Splits(**fields).of_scenes(SCANS, 0)
