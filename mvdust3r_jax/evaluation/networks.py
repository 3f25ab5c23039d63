"""Networks at work on a batch: one path, the best of several paths, pairs that are then aligned.

Pure functions of arrays, jitted by the caller; the first ``num_inputs`` views of a batch are seen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from mvdust3r_jax.evaluation.estimate import Estimate, principal_points
from mvdust3r_jax.geometry.mirrored import mean_of_both
from mvdust3r_jax.geometry.pointmaps import take_view
from mvdust3r_jax.geometry.truth import known_depth, true_pointmaps
from mvdust3r_jax.metrics.pointmaps import point_errors
from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.models.encoded import encode_views
from mvdust3r_jax.models.mvdust3r import MVDust3r
from mvdust3r_jax.models.reference_choice import (
    from_middle_view,
    from_view,
    surest_path,
    surest_reference,
)
from mvdust3r_jax.pairwise.alignment_start import Pairs, scene_graph
from mvdust3r_jax.pairwise.global_alignment import global_alignment
from mvdust3r_jax.pairwise.network import predict_pairs
from mvdust3r_jax.types import Batch, Prediction


def predict(
    variables: dict, batch: Batch, *, config: ModelConfig, num_inputs: int, num_refs: int
) -> Prediction:
    """Path 0 of the network."""
    images = batch.images[:, :num_inputs]
    return MVDust3r(config).apply(variables, images, num_refs=min(num_refs, num_inputs))


def predict_all_paths(
    variables: dict, batch: Batch, *, config: ModelConfig, num_inputs: int, num_refs: int
) -> Prediction:
    """All paths of the network, ``[B, R, V, ...]``."""
    images = batch.images[:, :num_inputs]
    num_refs = min(num_refs, num_inputs)
    return MVDust3r(config).apply(variables, images, num_refs=num_refs, all_paths=True)


def best_path(prediction: Prediction, batch: Batch) -> tuple[Prediction, Int[Array, " B"]]:
    """The path whose pointmaps come nearest to the truth (chosen knowing it), and its reference."""
    num_refs, num_inputs = prediction.points.shape[1:3]
    truth = true_pointmaps(batch, num_refs)[:, :, :num_inputs]
    valid = known_depth(batch)[:, None, :num_inputs]
    valid = jnp.broadcast_to(valid, truth.shape[:-1])
    nd = point_errors(prediction.points, truth, valid).nd
    best = jnp.argmin(jnp.nan_to_num(nd, nan=jnp.inf), axis=1)
    return jax.tree.map(lambda x: take_view(x, best), prediction), best


def surest(prediction: Prediction, batch: Batch) -> tuple[Prediction, Int[Array, " B"]]:
    """The path of the largest mean log confidence, and its reference; no truth is looked at."""
    del batch
    choice = surest_path(prediction)
    return choice.prediction, choice.reference


def predict_from_surest_view(
    variables: dict, batch: Batch, *, config: ModelConfig, num_inputs: int
) -> tuple[Prediction, Int[Array, " B"]]:
    """Every view tried as the only reference; the surest one's prediction, and which it is."""
    choice = surest_reference(variables, batch.images[:, :num_inputs], config=config)
    return choice.prediction, choice.reference


def predict_from_middle_view(
    variables: dict, batch: Batch, *, config: ModelConfig, num_inputs: int
) -> tuple[Prediction, Int[Array, " B"]]:
    """One path from the view that is most like all others, and which it is."""
    return from_middle_view(variables, batch.images[:, :num_inputs], config=config)


def predict_with_mirror(
    variables: dict, batch: Batch, *, config: ModelConfig, num_inputs: int
) -> tuple[Prediction, Int[Array, " B"]]:
    """`predict_from_middle_view`, and the mean with the answer to the mirror images."""
    images = batch.images[:, :num_inputs]
    seen, reference = from_middle_view(variables, images, config=config)
    turned, config = images[..., ::-1, :], replace(config, gaussians=False)
    tokens = encode_views(variables, turned, config)
    in_mirror = from_view(variables, turned, tokens, reference, config=config)
    return mean_of_both(seen, in_mirror), reference


def predict_scene_pairs(
    variables: dict,
    batch: Batch,
    *,
    config: ModelConfig,
    num_inputs: int,
    graph: str,
    window: int,
    pairs_at_once: int,
) -> Pairs:
    """The two-view network on all pairs of the scene graph; a batch axis before the pairs."""

    ends = scene_graph(num_inputs, graph, window)

    def one(images: Array) -> Pairs:
        return predict_pairs(variables, images, *ends, config=config, pairs_at_once=pairs_at_once)

    return jax.lax.map(one, batch.images[:, :num_inputs])


def align_scene_pairs(pairs: Pairs, batch: Batch, *, num_inputs: int, steps: int) -> Estimate:
    """Points, focal length of view 0 and poses by global alignment.

    Of the batch's cameras only the principal points are used.
    """

    def one(scene: tuple) -> Any:
        pairs, principal_px = scene
        return global_alignment(pairs, num_inputs, steps=steps, principal_px=principal_px)

    aligned = jax.lax.map(one, (pairs, principal_points(batch, num_inputs)))
    return Estimate(
        points=aligned.points,
        confidence=aligned.confidence,
        gaussians=None,
        reference=jnp.zeros(len(aligned.points), jnp.int32),
        focal_px=aligned.focal_px[:, 0],
        ref_from_cam=aligned.ref_from_cam,
        # Where nothing of a view has weight, its pose is finite but means nothing.
        pose_ok=jnp.isfinite(aligned.ref_from_cam).all(axis=(-2, -1))
        & (aligned.confidence > 1).any(axis=(-2, -1)),
    )
