"""One part of the network more or less, all from the same start and for as many steps.

    python train.py --config configs/ablation.py:points --workdir runs/ablation/points

From the first stage: `points` (no Gaussian is trained), `gaussians` (the second stage as it is),
`skip_cnn`, `refs4` (cross-reference blocks over four paths; any number from 2 to 8 goes as well);
`multi` and `pairs` (points alone, 4 or 2 views a sample, as many images a step): the multi-view
network and the pairwise one. `one_path` and `four_paths` train `gaussians` and `refs4` on, on
points alone. docs/experiments.md has the tables and the evaluations behind them.
"""

import re

from configs import small_render

STEPS, LONG = 600, 1000
RENDERED = ("loss.rgb", "loss.lpips", "loss.scale_clip")


def changed_fields(part: str) -> dict:
    """What a part changes in the second stage's configuration."""
    points = dict.fromkeys(RENDERED, 0.0) | {"data.num_targets": 0}
    longer = points | {"total_steps": LONG}
    refs = int(match[1]) if (match := re.fullmatch(r"refs([2-8])", part)) else 4
    paths = {"variant": "small", "num_refs": refs, "loss.render_paths": 1}
    parts = {
        "gaussians": {},
        "points": points,
        "skip_cnn": {"variant": "small_mvd_skip"},
        f"refs{refs}": paths,
        "multi": longer | {"data.num_inputs": (4,), "data.batch_size": 8},
        "pairs": longer | {"data.num_inputs": (2,), "data.batch_size": 16},
        "one_path": longer | {"init_from": "runs/ablation/gaussians"},
        "four_paths": longer | paths | {"init_from": "runs/ablation/refs4"},
    }
    if part not in parts:
        raise ValueError(f"parts are {sorted(parts)}, got {part!r}")
    return parts[part]


def get_config(part: str = "gaussians"):
    """The second stage, shorter, with 2 samples of 8 views, and with the part changed."""
    config = small_render.get_config()
    config.total_steps = STEPS
    config.warmup_steps = 50
    config.average_decay = 0.98
    config.data.num_inputs = (8,)
    config.data.batch_size = 2
    config.eval_every = 200
    config.pictures_every = STEPS
    config.update_from_flattened_dict(changed_fields(part))
    return config
