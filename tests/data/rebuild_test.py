"""A second build does what was asked for, or says what lies in its way; it never serves the old."""

import dataclasses
import json
import shutil

import pytest

from data import build
from data.rgbd.choice import Choice
from data.stored.made_from import RECORD, StaleDataError, check_record
from data.stored.reader import _version_folder
from data.stored.write import _alone_in
from tests.json_files import forget
from tests.posed_folders import box_scene, write_seven_scenes

FLAGS = "--inputs 3 --targets 1 --step 2 --radius 0.1 --trajectories 6 --processes 1".split()


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A folder of one scene, and what was built from it."""
    place = tmp_path_factory.mktemp("place")
    write_seven_scenes(place / "raw", box_scene(num_views=14), "s0")
    run(place)
    return place


@pytest.fixture
def place(first, tmp_path):
    """A copy of it."""
    return shutil.copytree(first, tmp_path / "place")


def run(place, *more, flags=FLAGS):
    argv = f"rgbd --layout 7scenes --root {place}/raw --out {place}/out".split()
    build.main([*argv, *flags, *more])


def stamp(place):
    return {p: p.stat().st_mtime_ns for p in (place / "out").rglob("*.array_record*")}


def test_the_same_build_again_changes_nothing(place):
    """It is recognized, and nothing is written."""
    before = stamp(place)
    run(place)
    assert stamp(place) == before and before


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--trajectories", "5"], "max_trajectories 6 -> 5"),
        (["--short-side", "24"], "short_side 0 -> 24"),
        (["--test-tail", "0.5"], "another part of train/s0"),
        (["--seed", "1"], "seed 0 -> 1"),
    ],
)
def test_other_options_are_not_answered_with_the_old_data(place, more, told):
    """The error names the option and the way out."""
    with pytest.raises(SystemExit, match=f"{told}.*remove it"):
        run(place, *more)


def test_new_scenes_and_new_files_are_noticed(place):
    """In the folder, and in a scene."""
    shutil.copytree(place / "raw" / "s0", place / "raw" / "s1")
    with pytest.raises(SystemExit, match="with train/s1"):
        run(place)
    shutil.rmtree(place / "raw" / "s1")
    extra = place / "raw/s0/frame-000099.color.jpg"
    extra.write_bytes((place / "raw/s0/frame-000000.color.jpg").read_bytes())
    with pytest.raises(SystemExit, match="other files in train/s0"):
        run(place)
    extra.unlink()
    run(place)


def test_a_given_choice_says_what_was_not_asked_for(place):
    """A shared split needs no options beside it; one that contradicts it is refused."""
    (place / "out/choice.npz").rename(place / "split.npz")
    given = ["--choice", str(place / "split.npz")]
    run(place, *given, flags=["--processes", "1"])
    with pytest.raises(SystemExit, match="num_inputs 3 -> 4"):
        run(place, *given, flags=["--inputs", "4"])


def test_data_of_unknown_making_is_not_served(place):
    """Sets that were built before there was a record."""
    (place / "out/rgbd/made_from.json").unlink()
    with pytest.raises(SystemExit, match="does not say what it was made from; remove it"):
        run(place)


def test_another_choice_is_another_data_set(place):
    """The choice was removed and made anew with other options: the frames are the old ones."""
    (place / "out/choice.npz").unlink()
    with pytest.raises(SystemExit, match="choice .* -> "):
        run(place, "--trajectories", "5")
    assert Choice.load(place / "out/choice.npz").rule.max_trajectories == 5


def test_rooms_of_another_size(tmp_path):
    """The same for generated rooms; nothing is rendered to find out."""
    made = {"inputs": 8, "targets": 2, "scenes": None, "version": "v", "size": [32, 32]}
    check_record(tmp_path, made, begun=False)
    check_record(tmp_path, made, begun=True)
    with pytest.raises(StaleDataError, match=r"size \[32, 32\] -> \[48, 48\]"):
        check_record(tmp_path, made | {"size": [48, 48]}, begun=True)
    assert json.loads((tmp_path / RECORD).read_text()) == made


@pytest.mark.parametrize("left", ["", '{"inputs": 8', "[]"])
def test_a_damaged_record_is_named(tmp_path, left):
    """With the way out."""
    (tmp_path / RECORD).write_text(left)
    with pytest.raises(StaleDataError, match=f"{RECORD} is damaged.*remove"):
        check_record(tmp_path, {"inputs": 8}, begun=True)


def test_new_poses_of_the_same_width_are_noticed(place):
    """By our own choice and, where that is given or made anew, by the data set."""
    shutil.copy(place / "out/choice.npz", place / "split.npz")
    pose = place / "raw/s0/frame-000003.pose.txt"
    digits = pose.read_text()
    pose.write_text(digits[:-3] + ("1" if digits[-3] != "1" else "2") + digits[-2:])
    assert pose.stat().st_size == len(digits)
    with pytest.raises(SystemExit, match="other files in train/s0"):
        run(place)
    with pytest.raises(SystemExit, match="cameras .* -> .*remove it"):
        run(place, "--choice", str(place / "split.npz"))


def test_choices_and_data_sets_of_earlier_versions_are_known_by_the_listing(place):
    """They say nothing of what is in the files of cameras; another listing is refused."""
    choice = Choice.load(place / "out/choice.npz")
    begin, end, files = choice.sources["train/s0"]
    earlier = {"train/s0": (begin, end, files.partition("-")[0])}
    dataclasses.replace(choice, sources=earlier).save(place / "out/choice.npz")
    record = place / "out/rgbd" / RECORD
    made = forget(record, "cameras")
    run(place)
    assert json.loads(record.read_text()) == made
    (place / "raw/s0/frame-000099.pose.txt").write_text("1")
    with pytest.raises(SystemExit, match="other files in train/s0"):
        run(place)


def test_a_killed_build_is_finished(place):
    """The list of empty frames comes back out of their records; unfinished folders go."""
    (place / "raw/s0/frame-000001.color.jpg").write_bytes(b"")
    shutil.rmtree(place / "out/rgbd")
    run(place, "--choice", str(place / "out/choice.npz"))
    note = place / "out/rgbd/frames/1.0.0/skipped.txt"
    told = note.read_text()
    assert told.count("\n") == 1 and "frame-000001" in told
    note.unlink()
    unfinished = shutil.copytree(note.parent, note.parents[1] / "incomplete.ABC_1.0.0")
    assert _version_folder(place / "out/rgbd", "frames") == note.parent
    run(place, "--choice", str(place / "out/choice.npz"))
    assert note.read_text() == told and not unfinished.exists()


def test_two_builds_in_one_folder(place):
    """The second is refused: it would remove the first one's unfinished files."""
    with _alone_in(place / "out/rgbd") as alone:
        assert alone
        with pytest.raises(SystemExit, match="another build is writing there"):
            run(place)
