"""Unseen rooms of the tiny world, as configs/tiny_world.py makes them.

python eval.py --config configs/eval_tiny_world.py --weights runs/tiny_world/one_path_1 \\
    --workdir DIR
"""

from configs import eval_defaults, tiny_world


def get_config():
    """200 rooms of 32 x 32 pixels, 12 views."""
    config = eval_defaults.get_config()
    fields = {"count": 200, "height": 32, "width": 32, "options": tiny_world.OPTIONS}
    config.datasets.rooms = eval_defaults.dataset("rooms", **fields)
    config.views = "12"
    config.num_targets = "0"
    config.methods = "mean,mvd"
    config.batch_per_device = 8
    config.splat_px = 0.3  # best of 0.02 to 3 on 40 validation rooms
    config.pictures = 1
    return config
