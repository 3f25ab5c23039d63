"""Splits of the published trajectories."""

from data.released.builder import Listing

SCANS = {f"scene{room:04d}_{scan:02d}": f"scene{room:04d}" for room in range(9) for scan in (0, 1)}


def test_released_trajectories_get_a_validation_split_of_whole_rooms():
    """Out of the training file; the test file is left alone."""
    listing = Listing({"train": dict.fromkeys(SCANS, []), "test": {"other": []}}, ())
    parts = listing.with_validation(0.2).trajectories
    rooms = [{SCANS[name] for name in parts[split]} for split in ("train", "validation")]
    assert len(rooms[1]) == 2 and not rooms[0] & rooms[1] and parts["test"] == {"other": []}
    assert listing.with_validation(0.0) is listing
