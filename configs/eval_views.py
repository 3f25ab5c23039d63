"""Accuracy and time of `room_mvd` against the number of views, 2 to 12 as in training.

python eval.py --config configs/eval_views.py --weights weights/room_mvd.safetensors --workdir DIR
"""

from configs import eval_room, eval_rooms


def get_config():
    """The same 40 rooms at every number of views; the more views, the more of a room they show."""
    config = eval_room.at_128(eval_rooms.get_config())
    config.datasets.rooms.count = 40
    config.views = "2,4,8,12"
    config.num_targets = "0"
    config.methods = "mean,mvd,mvd_middle,mvd_mirrored,mvd_windows"
    return config
