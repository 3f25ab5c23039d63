"""MV-DUSt3R at the small size on procedural rooms, points only: the first stage of `small`.

    python train.py --config configs/small_mvd.py --workdir runs/small_mvd

8 M parameters, 64x64 pixels, 4 views, one path, no rendering. Rooms are made while training.
"""

from configs import defaults


def get_config():
    """Muon, because on a CPU steps are dear; close views first is left to the baseline range."""
    config = defaults.get_config()
    config.variant = "small_mvd"
    config.remat = "full"  # on CPUs recomputing is cheaper than keeping
    config.num_refs = 1
    config.data.source = "rooms"
    config.data.batch_size = 8
    config.data.num_inputs = (4,)
    config.data.num_targets = 0
    config.data.height = config.data.width = 64
    config.data.baseline = (0.3, 1.2)
    config.total_steps = 40_000
    config.stop_step = 8_000  # what the hours allowed; the next stage lowers the learning rate
    config.warmup_steps = 300
    config.optimizer = "muon"
    config.peak_lr = 1e-3
    config.clip_norm = 1.0
    config.average_decay = 0.999
    config.log_every = 20
    config.eval_every = 500
    config.eval_batches = 8
    config.checkpoint_every = 100
    config.pictures_every = 500
    return config
