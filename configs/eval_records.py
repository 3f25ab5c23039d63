"""A stored data set (`python -m data.build`): four views of 64x64 of its test split.

python eval.py --config configs/eval_records.py --weights RUN --workdir EVAL \\
    --config.datasets.held_out.folder=DATA/rgbd
"""

from configs import eval_rooms


def get_config():
    """The network of one path beside the mean pointmap of the training split and the truth."""
    config = eval_rooms.get_config()
    config.datasets.unlock()
    del config.datasets["rooms"]
    config.datasets.held_out = {
        "source": "records",
        "folder": "data_sets/rgbd",
        "split": "test",
        "height": 64,
        "width": 64,
        "split_file": "",
        "count": 0,  # evenly spread over the split, 0 = all
    }
    config.views = "4"
    config.num_targets = "0"
    config.methods = "mean,oracle,mvd"
    config.num_refs = 1
    return config
