"""`room`: MV-DUSt3R+ at the small size for 128x128 pixels; the second stage, after room_mvd.

    python train.py --config configs/room.py --workdir runs/room

Four paths with cross-reference blocks, Gaussians, and new views rendered from one path a step.
Like the first stage it is trained in cycles; configs/room_mvd.py says how.
"""

from configs import room_mvd


def get_config():
    """Starts from the first stage; cross-reference blocks start as the identity."""
    config = room_mvd.get_config()
    config.variant = "room"
    config.init_from = "weights/room_mvd.safetensors"
    config.num_refs = 4
    config.data.images_per_step = 24
    config.data.num_inputs = (4, 8, 12)
    config.data.num_targets = 2
    config.loss.rgb = 1.0
    config.loss.lpips = 0.1
    config.loss.scale_clip = 1.0
    config.loss.render_paths = 1
    config.loss.render_views = 4
    config.peak_lr = 6e-4
    config.warmup_steps = 100
    config.eval_every = 250
    config.checkpoint_every = 50
    for name in ("views_4", "views_8", "photographic_8"):
        config.eval[name].images_per_step = 24
    return config
