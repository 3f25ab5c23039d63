"""A stored data set (`python -m data.build`): four views of 64x64 of its test split.

python eval.py --config configs/eval_records.py --weights RUN --workdir EVAL \\
    --config.datasets.held_out.folder=DATA/rgbd
"""

from configs import eval_defaults


def get_config():
    """The network of one path beside the mean pointmap of the training split and the truth."""
    config = eval_defaults.get_config()
    config.datasets.held_out = eval_defaults.dataset("records", folder="data_sets/rgbd")
    config.views = "4"
    config.num_targets = "0"
    config.methods = "mean,oracle,mvd"
    config.num_refs = 1
    return config
