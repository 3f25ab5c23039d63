"""`room`: MV-DUSt3R+ at the small size for 128x128 pixels; the third stage, after room_render.

    python train.py --config configs/room.py --workdir runs/room

Four paths with cross-reference blocks, and new views rendered from one path a step. Like the stages
before it is trained in cycles; configs/room_mvd.py says how.
"""

from configs import room_render


def get_config():
    """Starts from the second stage; cross-reference blocks start as the identity."""
    config = room_render.get_config()
    config.variant = "room"
    config.init_from = "weights/room_mvd.safetensors"
    config.num_refs = 4
    config.peak_lr = 2e-4  # 6e-4 disturbs more than a cycle of these steps mends
    config.data.images_per_step = 24
    config.data.num_inputs = (4, 8, 12)
    config.loss.render_paths = 1
    config.checkpoint_every = 50
    return config
