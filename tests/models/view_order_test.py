"""The order in which the network is given the views."""

import numpy as np

from mvdust3r_jax.models.view_order import network_order


def test_order_spreads_the_references():
    """Section 7 of the published facts: fixed swaps below 12 views, quarters from 12 on."""
    assert network_order(4) == [0, 3, 2, 1]
    assert network_order(8) == [0, 3, 6, 1, 4, 5, 2, 7]
    order = network_order(12)
    assert order[:4] == [0, 4, 7, 10]
    np.testing.assert_array_equal(np.sort(order), np.arange(12))
