"""A network on a few views at a time, windows joined by the views in common; under jit.

`reconstruction.windows` does it for photographs, one window in memory at a time, and with several
references in each where the network takes them (``cross_ref``); here each window has one.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mvdust3r_jax.geometry.align import robust_similarity
from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.models.mvdust3r import MVDust3r
from mvdust3r_jax.models.view_order import network_order
from mvdust3r_jax.models.window_plan import in_order
from mvdust3r_jax.products import exact_products
from mvdust3r_jax.types import Batch, Prediction


class _Whole(NamedTuple):
    """Of one scene so far; ``sure``, mean log confidence, is -inf where no window has answered."""

    points: Float[Array, "V H W 3"]
    confidence: Float[Array, "V H W"]
    sure: Float[Array, " V"]


class _Window(NamedTuple):
    """One window's answer, and which views it is of."""

    points: Float[Array, "n H W 3"]
    confidence: Float[Array, "n H W"]
    views: Int[Array, " n"]


def predict_in_windows(
    variables: dict, batch: Batch, *, config: ModelConfig, num_inputs: int, at_once: int
) -> Prediction:
    """Points and confidence of ``at_once`` views at a time, which follow each other in the walk.

    The batch has its views in `network_order`. Points are in the frame and scale of the first
    window, whose view 0 is the reference.
    """
    place = np.argsort(network_order(num_inputs))
    plan = jnp.asarray(place[np.array(in_order(num_inputs, at_once))])

    def answer(views: Int[Array, " n"]) -> tuple[Array, Array]:
        found = MVDust3r(config).apply(variables, batch.images[:, views])
        return found.points, found.confidence

    points, confidence = jax.lax.map(answer, plan)
    join = jax.vmap(_joined, in_axes=(1, 1, None, None))
    return Prediction(*join(points, confidence, plan, num_inputs))


def _joined(
    points: Float[Array, "k n H W 3"],
    confidence: Float[Array, "k n H W"],
    plan: Int[Array, "k n"],
    num_inputs: int,
) -> tuple[Float[Array, "V H W 3"], Float[Array, "V H W"]]:
    """Windows of one scene, each brought to those before; a view keeps the surer answer."""
    shape = num_inputs, *points.shape[2:4]
    start = _Whole(jnp.zeros((*shape, 3)), jnp.ones(shape), jnp.full(num_inputs, -jnp.inf))

    def add(whole: _Whole, window: _Window) -> tuple[_Whole, None]:
        views = window.views
        common = jnp.isfinite(whole.sure[views])
        moved = _moved(window, whole, common)
        sure = jnp.log(window.confidence).mean(axis=(1, 2))
        better = sure > whole.sure[views]
        each = better[:, None, None]
        return _Whole(
            whole.points.at[views].set(jnp.where(each[..., None], moved, whole.points[views])),
            whole.confidence.at[views].set(
                jnp.where(each, window.confidence, whole.confidence[views])
            ),
            whole.sure.at[views].set(jnp.where(better, sure, whole.sure[views])),
        ), None

    whole, _ = jax.lax.scan(add, start, _Window(points, confidence, plan))
    return whole.points, whole.confidence


@exact_products
def _moved(window: _Window, whole: _Whole, common: Bool[Array, " n"]) -> Float[Array, "n H W 3"]:
    """The window's points in the frame of the whole; as they are where nothing is in common."""
    sure = jnp.minimum(window.confidence, whole.confidence[window.views])
    weights = jnp.log1p(sure) * common[:, None, None]
    scale, rotation, translation = robust_similarity(
        window.points.reshape(-1, 3), whole.points[window.views].reshape(-1, 3), weights.reshape(-1)
    )
    moved = scale * window.points @ rotation.T + translation[None, None, None]
    return jnp.where(common.any(), moved, window.points)
