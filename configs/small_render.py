"""Second stage of `small`: 4 or 8 views, and new views rendered from the Gaussians.

python train.py --config configs/small_render.py --workdir runs/small_render
"""

from configs import small_mvd


def get_config():
    """Starts from the first stage; its Gaussian heads have learned nothing yet."""
    config = small_mvd.get_config()
    config.init_from = "runs/small_mvd"
    config.data.batch_size = 4
    config.data.num_inputs = (4, 8)
    config.data.num_targets = 2
    config.data.baseline = (0.5, 1.5)
    config.loss.rgb = 1.0
    config.loss.lpips = 0.1
    config.loss.scale_clip = 1.0
    config.loss.render_views = 4
    config.peak_lr = 6e-4
    config.total_steps, config.stop_step = 3_000, 0
    config.warmup_steps = 100
    config.eval = {"held_out": {"split": "validation", "num_inputs": (8,)}}
    return config
