"""DUSt3R at the small size, for the pairwise baseline: trained as long as `small_mvd`.

    python train.py --config configs/small_pairwise.py --workdir runs/small_pairwise
    python eval.py --config configs/eval_rooms.py --weights runs/small_mvd --workdir EVAL \\
        --config.pairwise_weights=runs/small_pairwise --config.methods=mvd,pairwise

The network of `small_mvd` on pairs: twice the samples of half the views, so each step sees as many
images.
"""

from configs import small_mvd


def get_config():
    """Two views a sample; everything else as in the multi-view run."""
    config = small_mvd.get_config()
    config.data.batch_size = 2 * config.data.batch_size
    config.data.num_inputs = (2,)
    return config
