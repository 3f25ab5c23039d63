"""MV-DUSt3R+ stage 1: 8 input and 2 render-only views, 4 paths, global batch 512, 100 epochs.

    python train.py --config configs/mvdp_stage1.py:DATA --workdir DIR \\
        --config.init_from=DUSt3R_ViTLarge_BaseDecoder_224_linear.pth

The published run: 64 GPUs x 2 samples x 4 accumulated. DATA as in ``configs/mvd.py``; set
``accumulation`` to what fits (docs/tpu_pods.md has a table for TPUs).
"""

from configs import mvd


def get_config(root=""):
    """As MV-DUSt3R, with cross-reference blocks and four paths."""
    config = mvd.get_config(root)
    config.variant = "mvdp"
    config.num_refs = 4
    return config
