"""A world in which a network is trained in half an hour on one core, for experiments with power.

    python train.py --config configs/tiny_world.py:start,0 --workdir runs/tiny_world/start
    python train.py --config configs/tiny_world.py:one_path,1 --workdir runs/tiny_world/one_path_1

Rooms of 3 to 5 m with little furniture, 32 x 32 pixels, 1.4 to 2 M parameters. The argument is an
arm of ARMS and a seed, by which its data and what is new in its network are drawn. As the paper's
networks begin as DUSt3R, a network of pairs, all arms begin as `start`: from random weights twelve
views teach nothing for a long time. Those called `..._later` begin as `pairs` of their seed, which
was trained three times as long, and see other rooms than it did. The learning rate is constant and
weights are averaged, so that a run may be judged at any of its steps:
`python -m benchmarks.tiny_world` trains and compares, at equal steps and equal time.
"""

from configs import defaults

# Of the common start, and of each arm after it.
START_STEPS, STEPS = 4_000, 4_000
RUNS = "runs/tiny_world"
START = f"{RUNS}/start"
OPTIONS = {"room_max": 5.0, "multi_room": 0.0, "density": (0.25, 0.45), "fov_deg": (65.0, 75.0)}
RENDERED = {"loss.rgb": 1.0, "loss.scale_clip": 1.0, "loss.render_views": 2, "data.num_targets": 2}
# Pairs as far apart as any two of four views are; a batch of them has only two references.
_PAIRS = {"data.num_inputs": (2,), "data.baseline": (0.5, 3.0), "data.reuse": 2}
_PATHS = {"num_refs": 4, "data.num_inputs": (4, 8, 12)}
# Added to the seed of the data of an arm that begins as another one.
LATER = 1_000
# What an arm changes in the first one: 4 to 12 views, one path, points alone.
ARMS = {
    "start": _PAIRS | {"init_from": ""},
    "pairs": _PAIRS,
    "one_path": {},
    "four_paths": _PATHS | {"variant": "world_points_cross_ref"},
    # The control of four_paths: as many paths in training, but they never meet.
    "four_paths_apart": _PATHS,
    "four_views": {"data.num_inputs": (4,)},
    # Both see a batch twice: as many different images in as many steps, from half as many rooms.
    "pairs_later": _PAIRS | {"init_from": "pairs"},
    "four_views_later": {"data.num_inputs": (4,), "data.reuse": 2, "init_from": "pairs"},
    "gaussians": {"variant": "world_mvd", "data.num_inputs": (8,)} | RENDERED,
}


def get_config(argument: str = "one_path,1"):
    """One arm with one seed."""
    arm, _, seed = argument.partition(",")
    if arm not in ARMS:
        raise ValueError(f"arms are {sorted(ARMS)}, got {arm!r}")
    config = defaults.get_config()
    config.variant = "world_points"
    config.num_refs = 1
    config.init_from = START
    config.seed = config.data.seed = int(seed or 0)
    config.data.images_per_step = 96
    config.data.num_inputs = (4, 8, 12)
    config.data.num_targets = 0
    config.data.height = config.data.width = 32
    config.data.baseline = (0.5, 1.0)
    config.data.reuse = 4
    config.data.options.update(OPTIONS)
    config.optimizer = "muon"
    config.peak_lr = 1e-3
    config.warmup_steps = 200
    config.total_steps = 2 * max(START_STEPS, STEPS)  # the benchmark says where each one stops
    config.decay_steps = 1
    config.clip_norm = 1.0
    config.average_decay = 0.999
    config.log_every = 50
    config.eval_every = 0  # a best checkpoint would be taken instead of the last one
    config.checkpoint_every = 500
    config.pictures_every = 0
    config.update_from_flattened_dict(ARMS[arm])
    if config.init_from in ARMS:
        config.init_from = f"{RUNS}/{config.init_from}_{config.seed}"
        config.data.seed += LATER
    return config
