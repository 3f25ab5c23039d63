"""The model card's table: `room_mvd` on test rooms of 4 to 8 m, 8 views of 128x128 and 2 new ones.

python eval.py --config configs/eval_room.py --weights weights/room_mvd.safetensors --workdir DIR
"""

from configs import eval_small

# Views at once in windows.
WINDOW = 3


def at_128(config):
    """The same with every set at the network's size, and its windows."""
    for fields in config.datasets.values():
        fields.height = fields.width = 128
    config.window = WINDOW
    return config


def get_config():
    """100 rooms that no training saw; the average of training rooms beside the network."""
    config = at_128(eval_small.get_config())
    config.methods = "constant,mean,oracle,mvd,mvd_middle,mvd_mirrored,mvd_windows,points"
    return config
