"""Which view the network is given first: the first ones serve as references."""

from __future__ import annotations


def network_order(num_views: int) -> list[int]:
    """The order in which the network is given the views: ``order[i]`` is its i-th view.

    It is the evaluation order of the release: the references (the first ones) are spread over the
    sequence. View 0 stays first. Undone by ``numpy.argsort``.
    """
    order = list(range(num_views))
    if num_views < 12:
        swaps = [(1, 3), (2, 6)]
    else:
        swaps = [(i, i * num_views // 4 + 1) for i in (1, 2, 3)]
    for a, b in swaps:
        if max(a, b) < num_views:
            order[a], order[b] = order[b], order[a]
    return order
