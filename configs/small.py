"""A network of about 10 M parameters on procedural rooms at 64x64, trainable on two CPU cores.

python train.py --config configs/small.py --workdir /tmp/small
"""

from configs import defaults


def get_config():
    """Four paths, 4 to 8 views; Muon, because on a CPU steps are dear."""
    config = defaults.get_config()
    config.variant = "small"
    config.num_refs = 4
    config.data.source = "rooms"
    config.data.batch_size = 4
    config.data.num_inputs = (4, 6, 8)
    config.data.num_targets = 2
    config.data.height = config.data.width = 64
    config.total_steps = 20_000
    config.warmup_steps = 500
    config.optimizer = "muon"
    config.peak_lr = 1e-3
    config.average_decay = 0.999
    config.log_every = 20
    config.eval_every = 500
    config.eval_batches = 16
    config.checkpoint_every = 250
    config.pictures_every = 500
    return config
