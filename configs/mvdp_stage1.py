"""MV-DUSt3R+ stage 1: 8 input and 2 render-only views, 4 paths, global batch 512, 100 epochs.

    python train.py --config configs/mvdp_stage1.py --workdir DIR \\
        --config.init_from=DUSt3R_ViTLarge_BaseDecoder_224_linear.pth

The published run: 64 GPUs x 2 samples x 4 accumulated. Set ``data.mixture`` to the folders of your
data sets and ``accumulation`` to what fits (docs/training.md has a table for TPUs).
"""

from configs import mvd


def get_config():
    """As MV-DUSt3R, with cross-reference blocks and four paths."""
    config = mvd.get_config()
    config.variant = "mvdp"
    config.num_refs = 4
    return config
