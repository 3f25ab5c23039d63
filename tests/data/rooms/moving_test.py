"""Rooms in which a piece of furniture moves between the views."""

import jax
import numpy as np
import pytest

from data.rooms import SPLITS, moving_batch

SEED = SPLITS["validation"][0]


@pytest.fixture(scope="module")
def room():
    """Three views of 16 x 16 pixels; the piece is shown in all of them."""
    return jax.device_get(moving_batch(np.array([SEED], np.uint32), 3, 16, 16))


def test_only_the_piece_moves(room):
    """Before and after the middle, pixels change where they show the piece, and nowhere else."""
    either = room.on_piece | room.on_piece_at_rest
    changed = np.abs(room.moving.depth_m - room.at_rest.depth_m) > 1e-3
    assert room.on_piece.any(axis=(2, 3)).all()
    assert not changed[~either].any()
    ends = [0, 2]
    assert changed[:, ends][either[:, ends]].mean() > 0.5


def test_the_piece_stands_where_it_did_in_the_middle_of_the_time(room):
    """Halfway along its path the piece is at its own place."""
    np.testing.assert_array_equal(room.on_piece[:, 1], room.on_piece_at_rest[:, 1])
    np.testing.assert_allclose(room.moving.depth_m[:, 1], room.at_rest.depth_m[:, 1], atol=1e-5)
