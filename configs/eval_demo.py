"""Held-out frames of the demo's room: four views of 64x64, against the truth.

python eval.py --config configs/eval_demo.py --weights demo_out/run --workdir demo_out/eval
"""

from configs import eval_rooms


def get_config():
    """The stored test split; the network beside the constant pointmap and the oracle."""
    config = eval_rooms.get_config()
    config.datasets.unlock()
    del config.datasets["rooms"]
    config.datasets.held_out = {
        "source": "records",
        "folder": "demo_out/data/rgbd",
        "split": "test",
        "height": 64,
        "width": 64,
        "split_file": "",
    }
    config.views = "4"
    config.num_targets = "0"
    config.methods = "mean,oracle,mvd"
    config.num_refs = 1
    return config
