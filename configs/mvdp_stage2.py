"""MV-DUSt3R+ stage 2: 4 to 12 input views mixed, from stage 1's weights.

    python train.py --config configs/mvdp_stage2.py:DATA --workdir DIR \\
        --config.init_from=STAGE1_WORKDIR

Every batch has one number of views, and each of the nine numbers is compiled once; fewer, such as
``--config.data.num_inputs="(4,6,8,10,12)"``, save compilations.
"""

from configs import mvdp_stage1, paper_mixture


def get_config(root=""):
    """As stage 1 with mixed numbers of views."""
    config = mvdp_stage1.get_config(root)
    config.data.num_inputs = paper_mixture.STAGE_2_INPUTS
    return config
