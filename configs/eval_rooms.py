"""The paper's tables on procedural rooms (test seeds): 100 trajectories, 4 to 24 views of 64x64.

python eval.py --config configs/eval_rooms.py --weights WEIGHTS --workdir /tmp/eval_rooms

Shorter: --config.views=4,8 --config.methods=constant,mvdp --config.datasets.rooms.count=20
"""

from configs import eval_defaults


def get_config():
    """The default methods at every number of views of the paper."""
    config = eval_defaults.get_config()
    config.datasets.rooms = eval_defaults.dataset("rooms", count=100, height=64, width=64)
    return config
