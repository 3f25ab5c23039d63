"""The published recipe as plain data: which data sets in which proportions, how many views.

``config.data.source = "records"; config.data.mixture = paper_mixture("/data")``. Folders are
what ``python -m data.build`` wrote; a mixture entry is (folder, weight), weights in thousands of
trajectories an epoch. An entry ("rooms", weight) means rooms made on the fly.
"""

from __future__ import annotations

# Folder below the data root -> thousands of trajectories in an epoch of 150,000.
PAPER_SHARES = {
    "scannet_0.3_0.7/rgbd": 15.0,
    "scannet_0.3_1.0/rgbd": 15.0,
    "scannetpp_0.3_0.7/rgbd": 15.0,
    "scannetpp_0.3_1.0/rgbd": 15.0,
    "habitat_1/released": 30.0,
    "habitat_2/released": 30.0,
    "habitat_3/released": 30.0,
}
TRAJECTORIES_PER_EPOCH = 150_000

# Numbers of input views of the stages; a batch has one of them.
STAGE_1_INPUTS = (8,)
STAGE_2_INPUTS = tuple(range(4, 13))
RENDER_ONLY_VIEWS = 2


def paper_mixture(root: str, rooms_share: float = 0.0) -> tuple[tuple[str, float], ...]:
    """The recipe's data sets below ``root``, with a share of generated rooms besides.

    rooms_share: in [0, 1); ValueError outside.
    """
    if not 0 <= rooms_share < 1:
        raise ValueError(f"expected 0 <= rooms_share < 1, got {rooms_share}")
    stored = tuple((f"{root}/{name}", share) for name, share in PAPER_SHARES.items())
    if not rooms_share:
        return stored
    total = sum(PAPER_SHARES.values())
    return (*stored, ("rooms", total * rooms_share / (1 - rooms_share)))
