"""The order in which the network is given the views."""

import numpy as np
import pytest

from mvdust3r_jax.models.view_order import network_order


def test_order_spreads_the_references():
    """Section 7 of the published facts: fixed swaps below 12 views, quarters from 12 on."""
    assert network_order(4) == [0, 3, 2, 1]
    assert network_order(8) == [0, 3, 6, 1, 4, 5, 2, 7]
    order = network_order(12)
    assert order[:4] == [0, 4, 7, 10]
    np.testing.assert_array_equal(np.sort(order), np.arange(12))


@pytest.mark.parametrize("count", [2, 3, 4, 7, 11, 12, 16, 24, 100])
def test_network_order(count):
    """A permutation that keeps view 0 first; the swaps of the release's evaluation."""
    order = network_order(count)
    assert sorted(order) == list(range(count)) and order[0] == 0
    expected = {4: [0, 3, 2, 1], 7: [0, 3, 6, 1, 4, 5, 2], 12: [0, 4, 7, 10]}
    if count in expected:
        assert order[: len(expected[count])] == expected[count]
