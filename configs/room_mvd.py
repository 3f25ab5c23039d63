"""MV-DUSt3R at the small size for 128x128 pixels, points only: the first stage of `room`.

    python train.py --config configs/room_mvd.py --workdir runs/room_mvd

15 M parameters, 2 to 12 views, one path, no rendering yet; half of the walks with a camera in the
hand, half of the rooms with fitted furniture, half in other colors, half as a cheap camera takes
them. Made for hours of an idle CPU, a cycle at a time: the learning rate falls from its peak to
zero over as many steps as these hours allow, and the next cycle starts from what this one left,
with another seed of its data: with the same one it would see the same rooms in the same order.

    python train.py --config configs/room_mvd.py --workdir runs/room_mvd_next \\
        --config.init_from=runs/room_mvd --config.data.seed=1 \\
        --config.total_steps=STEPS --config.decay_steps=STEPS-200
"""

from configs import defaults

# Half of the walks with a camera in the hand; phones and depth cameras cut to a square see less
# than the 50 degrees at which other rooms begin, and rooms that people live in are fuller.
HANDS = {"hand_held": 0.5, "fov_deg": (40.0, 80.0)}
# Fitted kitchens and narrow rooms: what is low and plain is not always a floor.
OPTIONS = HANDS | {"density": (0.35, 1.1), "fitted": 0.5, "room_min": 2.4}


def get_config():
    """Starts from `small`, on means of 2 x 2 pixels; see docs/room_mvd.md."""
    config = defaults.get_config()
    config.variant = "room_mvd"
    config.init_from = "weights/small.safetensors"
    config.remat = "dots_with_no_batch_dims_saveable"  # as fast as keeping all, in half the memory
    config.num_refs = 1
    config.data.source = "rooms"
    config.data.images_per_step = 48
    config.data.num_inputs = (2, 4, 8, 12)
    config.data.num_targets = 0
    config.data.height = config.data.width = 128
    config.data.baseline = (0.3, 1.5)
    config.data.reuse = 2
    config.data.recolor = 0.5
    config.data.photographic = 0.5
    config.data.options.update(OPTIONS)
    config.total_steps = 5_000  # four hours of two free cores
    config.decay_steps = 4_800
    config.warmup_steps = 200
    config.optimizer = "muon"
    config.peak_lr = 6e-4
    config.clip_norm = 1.0
    config.average_decay = 0.995
    config.log_every = 20
    config.eval_every = 500
    config.eval_batches = 8
    clean = {"split": "validation", "images_per_step": 32, "options": {}}
    clean |= {"recolor": 0.0, "photographic": 0.0}
    config.eval = {
        "views_8": clean | {"num_inputs": (8,), "baseline": (0.5, 1.5)},
        "views_4": clean | {"num_inputs": (4,), "baseline": (0.5, 1.5)},
        "photographic_8": clean | {"num_inputs": (8,), "baseline": (0.5, 1.5), "photographic": 1.0},
        "hand_held_4": clean | {"num_inputs": (4,), "options": HANDS | {"hand_held": 1.0}},
    }
    config.checkpoint_every = 100
    config.pictures_every = 1_000
    return config
