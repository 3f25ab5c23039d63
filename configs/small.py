"""`small`, the smaller of the two networks in weights/: third stage, MV-DUSt3R+ with four paths.

python train.py --config configs/small.py --workdir runs/small

10 M parameters at 64x64, patch 8, trained on generated rooms alone, in three stages on CPUs:
configs/small_mvd.py, configs/small_render.py, this.
"""

from configs import small_render


def get_config():
    """Starts from the second stage; the cross-reference blocks start as the identity."""
    config = small_render.get_config()
    config.init_from = "runs/small_render"
    config.variant = "small"
    config.num_refs = 4
    config.data.num_inputs = (8,)
    config.loss.render_paths = 1
    config.peak_lr = 4e-4
    config.total_steps = 170
    config.average_decay = 0.98
    config.warmup_steps = 30
    config.eval_every = 85
    config.checkpoint_every = 50
    return config
