"""Sets to evaluate on: their order, their number, their options, and what is refused."""

import numpy as np
import pytest

from data.eval_sets import make_eval_set
from data.rooms import ROOMS_VERSION
from data.stored.reader import TrajectorySet, decode_views
from mvdust3r_jax.evaluation.sets import read_split, save_split
from tests.evaluation.boxes import SIZE, stored_set


def test_stored_sets_give_the_published_order(folder, tmp_path):
    """A stored set yields its own frames, reordered as published; too many views are an error."""
    data = stored_set(folder)
    ids = data.ids(4, 1)
    assert len(ids) == 10 and ids[3] == "2/3"
    batch = data.load(ids[3:5], 4, 1)
    assert batch.images.shape == (2, 5, SIZE, SIZE, 3)
    frames = TrajectorySet(folder, "test")
    views = decode_views(frames.read(frames.records(3, 4, 1)), (SIZE, SIZE))
    np.testing.assert_array_equal(batch.images[0], views.images[[0, 3, 2, 1, 4]])
    np.testing.assert_array_equal(batch.world_from_cam[0, 1], views.world_from_cam[3])
    with pytest.raises(ValueError, match="up to 6 and 2"):
        data.ids(7, 1)
    with pytest.raises(ValueError, match="up to 6 and 2"):
        data.ids(6, 3)


def test_a_split_file_gives_exactly_its_trajectories(folder, tmp_path):
    """In its order; a count beside it, another set's file and an unknown id are refused."""
    path = tmp_path / "split.json"
    save_split(path, "stored", ["2/7", "2/3"])
    assert stored_set(folder, str(path)).ids(4, 1) == ["2/7", "2/3"]
    with pytest.raises(ValueError, match="a split file says which .* count = 1, not 0"):
        stored_set(folder, str(path), count=1)
    save_split(path, "rooms", ["2/7"])
    with pytest.raises(ValueError, match="split.json is of the data set 'rooms', .* 'stored'"):
        stored_set(folder, str(path))
    save_split(path, "stored", ["2/10"])
    with pytest.raises(ValueError, match="names '2/10', which .* lacks"):
        stored_set(folder, str(path))


def test_a_split_file_of_another_split_is_refused(folder, tmp_path):
    """A number of the test split may not come from training; files that say nothing are taken."""
    path = tmp_path / "split.json"
    save_split(path, "stored", ["2/7"], split="train")
    with pytest.raises(ValueError, match="split.json is of the split 'train', .* 'test'"):
        stored_set(folder, str(path))
    for of in ("test", ""):
        save_split(path, "stored", ["2/7"], split=of)
        assert stored_set(folder, str(path)).ids(4, 1) == ["2/7"]


@pytest.mark.parametrize("room", ["5", "4000000000", "5000000000", "abc", "", "03500000000"])
def test_rooms_are_of_their_split(tmp_path, room):
    """Seeds of other splits, or no seeds, end in one line before a room is made."""
    path, settings = tmp_path / "split.json", {"count": 1, "height": 16, "width": 16}
    save_split(path, "rooms", [f"{ROOMS_VERSION}:3500000007", f"{ROOMS_VERSION}:{room}"])
    with pytest.raises(ValueError, match=f"rooms: .* 'test' have ids .*:3999999999, got .*:{room}"):
        make_eval_set("rooms", "rooms", str(path), split="test", **settings)


def test_listed_trajectories_of_too_few_views_are_named(folder, tmp_path, monkeypatch):
    """They do not vanish from the round."""
    path = tmp_path / "split.json"
    save_split(path, "stored", ["2/7", "2/3", "2/4"])
    monkeypatch.setattr(TrajectorySet, "eligible", lambda *_: np.array([2, 3]))
    with pytest.raises(ValueError, match="2/7, 2/4 .2 of 3., which have not 4 input and 1 render"):
        stored_set(folder, str(path)).ids(4, 1)


def test_a_count_takes_that_many_stored_trajectories_evenly_spread(folder):
    """First and last are among them; more than there are is all of them."""
    settings = dict(source="records", folder=str(folder), split="test", height=SIZE, width=SIZE)
    ids = stored_set(folder).ids(4, 1)
    assert make_eval_set("stored", **settings, count=3).ids(4, 1) == [ids[0], ids[4], ids[9]]
    assert make_eval_set("stored", **settings, count=99).ids(4, 1) == ids


def test_rooms_of_other_options():
    """Options change the rooms of the same seeds; one that does not exist is an error.

    Those of training have a focal length below 17.2 pixels of 16.
    """
    settings = dict(source="rooms", split="test", count=1, height=16, width=16)
    narrow = make_eval_set("narrow", **settings, options={"fov_deg": [35.0, 36.0]})
    focal_px = narrow.load(narrow.ids(2, 0), 2, 0).intrinsics[0, 0, 0, 0]
    assert 8 / np.tan(np.deg2rad(18)) <= focal_px <= 8 / np.tan(np.deg2rad(17.5))
    with pytest.raises(ValueError, match="got 'fov'"):
        make_eval_set("wrong", **settings, options={"fov": 40})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": "tets"}, "split must be one of .*test.*got 'tets'"),
        ({"count": 0}, "count must be at least 1 for rooms, got 0"),
        ({"height": 0}, "height and width must be positive"),
        ({"source": "room"}, "source must be 'rooms' or 'records', got 'room'"),
    ],
)
def test_wrong_settings_are_named(changes, said):
    """One line each, before anything is made."""
    settings = {"source": "rooms", "split": "test", "count": 1, "height": 16, "width": 16}
    with pytest.raises(ValueError, match=said):
        make_eval_set("rooms", **settings | changes)


def test_split_files_are_read_back(tmp_path):
    """What was saved comes back; another JSON file is refused, and an id that is there twice."""
    save_split(tmp_path / "split.json", "x", ["1"])
    assert read_split(tmp_path / "split.json") == ["1"]
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ValueError, match="no split file"):
        read_split(tmp_path / "other.json")
    save_split(tmp_path / "split.json", "x", ["1", "2", "1"])
    with pytest.raises(ValueError, match="lists '1' more than once"):
        read_split(tmp_path / "split.json")
