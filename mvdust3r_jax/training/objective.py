"""The whole training objective: weighted terms, each logged under its own name.

Terms of points compare pointmaps of all paths; terms of scenes render the predicted Gaussians in
the true cameras of input and render-only views (``render_loss``). All values are shares of the
whole batch's (see ``losses``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mvdust3r_jax.geometry.truth import known_depth, true_pointmaps
from mvdust3r_jax.products import exact_products
from mvdust3r_jax.training import losses
from mvdust3r_jax.training.losses import Pool
from mvdust3r_jax.training.objective_config import ObjectiveConfig
from mvdust3r_jax.training.render_loss import SCENE_TERMS, render_terms
from mvdust3r_jax.types import Batch, Prediction


class Points(NamedTuple):
    """What a term of points is computed from; input views only."""

    prediction: Prediction
    truth: Float[Array, "B R V H W 3"]
    valid: Bool[Array, "B V H W"]
    pool: Pool


def confidence(points: Points) -> Float[Array, ""]:
    """The published confidence loss, summed over the slots."""
    prediction, *rest = points
    return losses.confidence_loss(
        prediction.points, prediction.confidence, *rest[:2], pool=points.pool
    ).sum()


def regression(points: Points) -> Float[Array, ""]:
    """The normalized point error alone, summed over the slots."""
    return losses.regression_loss(
        points.prediction.points, points.truth, points.valid, pool=points.pool
    ).sum()


# Name -> function; a new term is an entry here or in SCENE_TERMS, and its weight in the config.
POINT_TERMS: dict[str, Callable[[Points], Float[Array, ""]]] = {
    "confidence": confidence,
    "regression": regression,
}
# Logged with or without weight.
ALWAYS = ("confidence", "regression")


def check_terms(config: ObjectiveConfig) -> None:
    """ValueError for a weight of a term that does not exist, naming those that do."""
    # Now, not when this file is imported: programs of others may add terms of their own.
    terms = (*POINT_TERMS, *SCENE_TERMS)
    unknown = sorted(set(config.weights) - set(terms))
    if unknown:
        raise ValueError(f"unknown loss terms {', '.join(unknown)}; there are {', '.join(terms)}")


@exact_products
def total_loss(
    config: ObjectiveConfig,
    prediction: Prediction,
    batch: Batch,
    key: Array,
    *,
    perceptual: dict | None = None,
    pool: Pool | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Weighted sum and the unweighted terms; ``prediction`` has the path axis [B, R, V, ...].

    pool: counts of the whole batch that this is a part of, by default this batch's own.
    """
    check_terms(config)
    num_refs, num_inputs = prediction.points.shape[1:3]
    valid = known_depth(batch)
    pool = losses.pool_of(batch, num_inputs, num_refs) if pool is None else pool
    truth = true_pointmaps(batch, num_refs)[:, :, :num_inputs]
    points = Points(prediction, truth, valid[:, :num_inputs], pool)
    computed = [name for name in POINT_TERMS if name in ALWAYS or name in config.weights]
    terms = {name: POINT_TERMS[name](points) for name in computed}
    weighted = [config.weights[name] * terms[name] for name in computed if name in config.weights]
    loss = sum(weighted, start=jnp.float32(0))
    terms["valid_share"] = losses.sample_mean(valid.mean(axis=(1, 2, 3)), pool)
    log_confidence = jnp.log(prediction.confidence).mean(axis=(1, 2, 3, 4))
    terms["mean_log_confidence"] = losses.sample_mean(log_confidence, pool)
    if any(name in config.weights for name in SCENE_TERMS):
        of_scenes, rendered = render_terms(
            config, prediction, batch, key, perceptual=perceptual, pool=pool
        )
        loss, terms = loss + of_scenes, terms | rendered
    return loss, terms
