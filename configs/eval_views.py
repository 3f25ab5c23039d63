"""Accuracy and time against the number of views, 2 to 32, for a network trained on 4 and 8.

python eval.py --config configs/eval_views.py --weights weights/small.safetensors --workdir DIR
"""

from configs import eval_rooms


def get_config():
    """The same 50 rooms at every number of views; the more views, the more of a room they show."""
    config = eval_rooms.get_config()
    config.datasets.rooms.count = 50
    config.views = "2,4,8,12,16,24,32"
    config.num_targets = "2"
    config.methods = "mean,mvdp"
    return config
