"""Splits of the published trajectories, and what a second build makes of other raw files."""

import json
import shutil

import numpy as np
import pytest

from data import build
from data.released.builder import Listing
from data.schema import encode_depth_units
from data.stored.made_from import RECORD
from tests.json_files import forget
from tests.posed_folders import box_scene, released_entry, write_h5, write_scannet

SCANS = {f"scene{room:04d}_{scan:02d}": f"scene{room:04d}" for room in range(9) for scan in (0, 1)}


def test_released_trajectories_get_a_validation_split_of_whole_rooms():
    """Out of the training file; the test file is left alone."""
    listing = Listing({"train": dict.fromkeys(SCANS, []), "test": {"other": []}}, ())
    parts = listing.with_validation(0.2).trajectories
    rooms = [{SCANS[name] for name in parts[split]} for split in ("train", "validation")]
    assert len(rooms[1]) == 2 and not rooms[0] & rooms[1] and parts["test"] == {"other": []}
    assert listing.with_validation(0.0) is listing


@pytest.fixture
def place(tmp_path):
    """Raw files of four frames and a published file that names them."""
    scene = box_scene(num_views=4)
    write_scannet(tmp_path / "raw", scene)
    write_h5(tmp_path / "dps.h5", [released_entry(scene, range(4))])
    return tmp_path


def run(place):
    base = f"released --train {place}/dps.h5 --root {place}/raw --out {place}/out --targets 1"
    build.main(base.split())


def test_files_that_were_put_back_are_noticed(place):
    """The second build does not answer with the frame that is stored empty."""
    image = next(place.rglob("color/1.jpg"))
    image.rename(place / "away.jpg")
    run(place)
    run(place)
    assert "1.jpg" in (place / "out/released/frames/1.0.0/skipped.txt").read_text()
    (place / "away.jpg").rename(image)
    with pytest.raises(SystemExit, match="files .*7 of 8 found.* -> .*8 of 8 found.*remove it"):
        run(place)
    shutil.rmtree(place / "out/released")
    run(place)
    image.write_bytes(image.read_bytes() + b"x")
    with pytest.raises(SystemExit, match="was made otherwise .files .*remove it"):
        run(place)


def test_data_sets_of_earlier_versions_are_taken(place):
    """They do not say which files there were."""
    run(place)
    record = place / "out/released" / RECORD
    made = forget(record, "files")
    run(place)
    assert json.loads(record.read_text()) == made


def test_frames_without_depth_are_stored_empty_and_listed(place):
    """As those without a file."""
    np.save(place / "raw/0.npy", np.full((48, 64), 2000, np.uint16))
    next(place.rglob("depth/1.png")).write_bytes(encode_depth_units(np.zeros((48, 64))))
    entry = released_entry(box_scene(num_views=4), range(4))
    entry["depth_list"][0] = "0.npy"
    write_h5(place / "dps.h5", [entry])
    run(place)
    lines = (place / "out/released/frames/1.0.0/skipped.txt").read_text().splitlines()
    assert len(lines) == 2 and "in meters" in lines[0] and "1.png: depth is empty" in lines[1]


def test_a_root_without_any_frame_is_refused(place):
    """Instead of a data set of which every frame is empty."""
    shutil.rmtree(place / "raw")
    with pytest.raises(SystemExit, match="none of 4 frames has its image and depth below"):
        run(place)
    assert not (place / "out").exists()
