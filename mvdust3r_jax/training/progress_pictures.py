"""A picture of what a network does on one sample, for the metric log: one row a kind, views across.

Rows, from the top: log confidence, distance from the reference camera, input, and for networks with
Gaussians the rendering and the truth of all views, the render-only ones at the end. Renderings have
the rasterizer's default capacity: whether that is enough, ``overflow`` of the steps' records tells.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mvdust3r_jax.geometry.transforms import safe_norm
from mvdust3r_jax.geometry.truth import reference_from_cameras
from mvdust3r_jax.splat.pointmaps import clip_scales, normalized_scenes, render
from mvdust3r_jax.training.state import TrainState
from mvdust3r_jax.training.step import Recipe
from mvdust3r_jax.types import Batch, images_01_from

# Pixels between pictures.
GAP = 2


def picture_step(state: TrainState, batch: Batch, *, recipe: Recipe) -> dict[str, Array]:
    """Rows of pictures of the first sample: each ``[views, H, W, 3]`` or ``[views, H, W]``."""
    objective = recipe.objective
    batch = jax.tree.map(lambda x: x[:1], batch)
    num_inputs = batch.images.shape[1] - objective.num_targets
    prediction = recipe.model.apply(
        {"params": state.average or state.params, "batch_stats": state.batch_stats},
        batch.images[:, :num_inputs],
        num_refs=min(objective.num_refs, num_inputs),
    )
    rows = {
        "input": batch.images[0, :num_inputs],
        "distance": safe_norm(prediction.points[0]),
        "confidence": jnp.log(prediction.confidence[0]),
    }
    if prediction.gaussians is None:
        return rows
    poses = reference_from_cameras(batch.world_from_cam, 1)[:, 0]
    scenes = normalized_scenes(prediction, batch, poses)
    scales = clip_scales(prediction.gaussians.scales, scenes.factor, objective.max_scale)
    rendered, _ = render(
        *(scenes.points, scenes.prediction, scales, scenes.pixels),
        *(scenes.ref_from_cam, scenes.intrinsics),
        sh_degree=objective.sh_degree,
    )
    return rows | {"truth": batch.images[0], "rendered": rendered[0]}


def contact_sheet(rows: dict[str, np.ndarray]) -> Float[np.ndarray, "h w 3"]:
    """All rows in one image in [0, 1]; single-channel rows as gray, from 2 % to 98 % of each."""
    strips = [_strip(np.asarray(row)) for row in rows.values()]
    width = max(s.shape[1] for s in strips)
    padded = [np.pad(s, ((0, GAP), (0, width - s.shape[1]), (0, 0))) for s in strips]
    return np.concatenate(padded)


def _strip(row: np.ndarray) -> np.ndarray:
    if row.ndim == 4:
        row = np.clip(images_01_from(row), 0, 1)
    else:
        low, high = np.percentile(row, [2, 98])
        row = np.clip((row - low) / max(high - low, 1e-6), 0, 1)[..., None].repeat(3, -1)
    row = np.pad(row, ((0, 0), (0, 0), (0, GAP), (0, 0)))
    return np.concatenate(list(row), axis=1)
