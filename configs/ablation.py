"""One part of the network more or less, all from the same start and for as many steps.

    python train.py --config configs/ablation.py:points --workdir runs/ablation/points

Parts: `points` (no Gaussian is trained), `gaussians` (the second stage as it is), `skip_cnn`,
`refs2`, `refs4`, `refs8` (cross-reference blocks over so many paths); `multi` and `pairs` (points
alone, 4 or 2 views a sample, as many images a step): the multi-view network and the pairwise one.
docs/experiments.md has the table and the evaluation behind it.
"""

from configs import small_render

STEPS = 600
RENDERED = ("loss.rgb", "loss.lpips", "loss.scale_clip")


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
    changes = {
        "gaussians": {},
        "points": dict.fromkeys(RENDERED, 0.0) | {"data.num_targets": 0},
        "skip_cnn": {"variant": "small_mvd_skip"},
        **{f"refs{r}": {"variant": "small", "num_refs": r} for r in (2, 4, 8)},
    }
    longer = changes["points"] | {"total_steps": 1000}
    changes["multi"] = longer | {"data.num_inputs": (4,), "data.batch_size": 8}
    changes["pairs"] = longer | {"data.num_inputs": (2,), "data.batch_size": 16}
    if part not in changes:
        raise ValueError(f"parts are {sorted(changes)}, got {part!r}")
    config.update_from_flattened_dict(changes[part])
    if part.startswith("refs"):
        config.loss.render_paths = 1
    return config
