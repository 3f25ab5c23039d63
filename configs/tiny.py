"""A network of 0.2 M parameters on boxes, for smoke runs: about a minute on two cores.

python train.py --config configs/tiny.py --workdir /tmp/tiny
"""

from configs import defaults


def get_config():
    """Two paths, three or four views of 32x32."""
    config = defaults.get_config()
    config.variant = "tiny"
    config.num_refs = 2
    config.data.source = "box"
    config.data.batch_size = 8
    config.data.num_inputs = (3, 4)
    config.data.num_targets = 1
    config.data.height = config.data.width = 32
    config.total_steps = 200
    config.warmup_steps = 20
    config.peak_lr = 1e-3
    config.log_every = 10
    config.eval_every = 100
    config.eval_batches = 2
    config.checkpoint_every = 100
    config.pictures_every = 100
    return config
