"""What `make demo` trains: one room, seen frames only, about three minutes on two cores.

python train.py --config configs/demo.py --workdir demo_out/run
"""

from configs import defaults


def get_config():
    """Points only: a network this small sees one room, and is asked for unseen frames of it."""
    config = defaults.get_config()
    config.variant = "demo"
    config.num_refs = 1
    config.data.source = "records"
    config.data.mixture = (("demo_out/data/rgbd", 1.0),)
    config.data.batch_size = 4
    config.data.num_inputs = (4,)
    config.data.num_targets = 0
    config.data.height = config.data.width = 64
    config.total_steps = 1_200
    config.warmup_steps = 50
    config.optimizer = "muon"
    config.peak_lr = 2e-3
    config.clip_norm = 1.0
    config.average_decay = 0.99
    config.log_every = 50
    config.eval_every = 0
    config.pictures_every = 0
    config.checkpoint_every = 400
    config.tensorboard = False
    return config
