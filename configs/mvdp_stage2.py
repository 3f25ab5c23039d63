"""MV-DUSt3R+ stage 2: 4 to 12 input views mixed, from stage 1's weights.

    python train.py --config configs/mvdp_stage2.py --workdir DIR --config.init_from=STAGE1_WORKDIR

Every batch has one number of views, and each number is compiled once.
"""

from configs import mvdp_stage1


def get_config():
    """As stage 1 with mixed numbers of views."""
    config = mvdp_stage1.get_config()
    config.data.num_inputs = (4, 6, 8, 10, 12)
    return config
