"""`small` on test rooms of 4 to 8 m, 8 views of 64x64 and 2 new ones.

python eval.py --config configs/eval_small.py --weights weights/small.safetensors --workdir DIR
"""

from configs import eval_rooms


def get_config():
    """100 rooms that no training saw; the average of training rooms beside the network."""
    config = eval_rooms.get_config()
    config.datasets.rooms.options = {"room_min": 4.0}
    config.views = "8"
    config.num_targets = "2"
    config.methods = "constant,mean,oracle,mvdp,points"
    config.pictures = 3
    return config
