"""A mixture of sources: what its position says."""

import pytest

from data.box import BoxSource
from data.mixture import MixedIterator


def mixed(parts, weights=None):
    sources = [
        BoxSource(batch_size=2, num_inputs=(2,), num_targets=0, height=8, width=8, seed=seed)
        for seed in range(parts)
    ]
    return MixedIterator(sources, weights or [1 / parts] * parts, seed=0)


def test_parts_are_drawn_by_their_weights():
    """Of 200 batches a quarter and three quarters, within three deviations of a binomial."""
    stream = mixed(2, [0.25, 0.75])
    for _ in range(200):
        next(stream)
    drawn = [part["next"] for part in stream.get_state()["parts"]]
    assert sum(drawn) == 200 and abs(drawn[0] - 50) < 18


def test_the_position_counts_the_samples_of_all_parts():
    """Epochs of a run that goes on are counted from them."""
    stream, again = mixed(2), mixed(2)
    for _ in range(5):
        next(stream)
    assert stream.get_state()["sample"] == 10
    again.set_state(stream.get_state())
    assert again.get_state() == stream.get_state()


def test_a_position_of_another_number_of_parts_is_an_error():
    """Parts that were added later have none."""
    with pytest.raises(ValueError, match="is that of 1 parts, the mixture has 2"):
        mixed(2).set_state(mixed(1).get_state())


def test_a_position_that_a_part_refuses_moves_none():
    """Whoever then lets the data begin anew begins with the first draw and the first samples."""
    stream, position = mixed(2), mixed(2).get_state()
    position["step"], position["parts"][0]["next"] = 7, 5
    position["parts"][1] = {}
    before = stream.get_state()
    with pytest.raises(KeyError):
        stream.set_state(position)
    assert stream.get_state() == before
