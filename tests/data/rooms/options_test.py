"""Options of rooms: wrong names, types and values are told before anything is rendered."""

import dataclasses

import pytest

from data.rooms.options import _RANGES, Options, options_from


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"dens": 1.0}, "'dens'"),
        ({"fov_deg": 60.0}, "two rising numbers in .5, 150., got 60.0"),
        ({"fov_deg": [80.0, 40.0]}, "two rising numbers"),
        ({"hand_held": 50}, "hand_held must be a number in .0, 1., got 50"),
        ({"fitted": -0.1}, "fitted must be a number"),
        ({"dark": float("nan")}, "dark must be a number"),
        ({"multi_room": "often"}, "got 'often'"),
        ({"room_min": 9.0}, "room_min must be at most room_max, got 9 and 8"),
    ],
)
def test_wrong_options_are_named(changes, told):
    """The error tells the option, what it may be and what came."""
    with pytest.raises(ValueError, match=told):
        options_from(changes)


def test_every_option_has_a_range_and_starts_within_it():
    """What is given as it stands by default passes the check."""
    defaults = dataclasses.asdict(Options())
    assert set(_RANGES) == set(defaults)
    assert options_from(defaults) == Options()


def test_lists_are_pairs():
    """JSON and TOML have no tuples."""
    assert options_from({"density": [0.2, 1.1]}).density == (0.2, 1.1)
