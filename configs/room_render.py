"""Second stage of `room`: 2 to 8 views, and new views rendered from the Gaussians.

    python train.py --config configs/room_render.py --workdir runs/room_render

One path still. Like the first stage it is trained in cycles; configs/room_mvd.py says how.
"""

from configs import room_mvd


def get_config():
    """Starts from the first stage; its Gaussian heads have learned nothing yet."""
    config = room_mvd.get_config()
    config.init_from = "runs/room_mvd"
    config.data.images_per_step = 32
    config.data.num_inputs = (2, 4, 8)
    config.data.num_targets = 2
    config.loss.rgb = 1.0
    config.loss.lpips = 0.1
    config.loss.scale_clip = 1.0
    config.loss.render_views = 2
    config.warmup_steps = 100
    config.eval_every = 250
    for name in config.eval:
        config.eval[name].images_per_step = 24
    return config
