"""What is traced into a reconstruction's programs; imported only where none is kept (`programs`).

Programs take uint8 pixels ``[V, H, W, 3]`` and return a dict of arrays, both in the order of the
photographs. The network itself sees them in the order that spreads its references over the views.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from mvdust3r_jax.cameras import from_pointmaps
from mvdust3r_jax.cameras.focals import own_focals
from mvdust3r_jax.geometry.align import robust_similarity
from mvdust3r_jax.geometry.mirrored import mean_of_both
from mvdust3r_jax.geometry.pointmaps import mean_distance
from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.models.encoded import encode_views
from mvdust3r_jax.models.mvdust3r import MVDust3r
from mvdust3r_jax.models.reference_choice import (
    from_middle_view,
    surest_of_group,
    surest_of_paths,
)
from mvdust3r_jax.models.view_order import network_order
from mvdust3r_jax.splat.pointmaps import clip_scales
from mvdust3r_jax.types import Prediction, images_from_pixels

# Where the focal length cannot be found, the field of view of a usual phone camera is assumed.
_FALLBACK_FOCAL_PER_WIDTH = 0.8


def forward(
    config: ModelConfig,
    num_refs: int,
    variables: dict,
    pixels: UInt8[Array, "V H W 3"],
    reference: Int[Array, ""] | int = 0,
) -> Prediction:
    """One pass from uint8 pixels to the prediction, both in the order of the photographs.

    reference: the photograph in whose camera frame the points are.
    """
    order, back = _turned_order(len(pixels), reference)
    images = images_from_pixels(pixels[order])[None]
    pred = MVDust3r(config).apply(variables, images, num_refs=num_refs)
    pred = _rendered_scales(pred, config.max_scale)
    return jax.tree.map(lambda x: x[0][back], pred)


def _turned_order(views: int, reference: Int[Array, ""] | int) -> tuple[Array, Array]:
    """The network's order, turned so that it begins with the reference; and its inverse."""
    order = np.array(network_order(views))
    # Photograph (order[i] + reference) % V comes i-th.
    turned = (jnp.asarray(order) + reference) % views
    back = jnp.asarray(np.argsort(order))[(jnp.arange(views) - reference) % views]
    return turned, back


def forward_arrays(config: ModelConfig, num_refs: int, *arrays: Any) -> dict[str, Array]:
    """`forward`, its prediction as a dict."""
    return arrays_of(forward(config, num_refs, *arrays))


def surest_arrays(
    config: ModelConfig, num_refs: int, variables: dict, pixels: UInt8[Array, "V H W 3"]
) -> dict[str, Array]:
    """`forward` on the surest of ``num_refs`` paths, whose ``reference`` and ``scores`` are added.

    The candidates are the first photographs in the network's order.
    """
    order, back = _turned_order(len(pixels), 0)
    choice = surest_of_paths(
        variables, images_from_pixels(pixels[order])[None], config=config, num_refs=num_refs
    )
    pred = _rendered_scales(choice.prediction, config.max_scale)
    named = arrays_of(jax.tree.map(lambda x: x[0][back], pred))
    return named | {"reference": order[choice.reference[0]], "scores": choice.scores[0]}


def middle_arrays(
    config: ModelConfig, num_refs: int, variables: dict, pixels: UInt8[Array, "V H W 3"]
) -> dict[str, Array]:
    """`forward` from the photograph in the middle, which is added as ``reference``."""
    order, back = _turned_order(len(pixels), 0)
    pred, reference = from_middle_view(
        variables, images_from_pixels(pixels[order])[None], config=config, num_refs=num_refs
    )
    pred = _rendered_scales(pred, config.max_scale)
    named = arrays_of(jax.tree.map(lambda x: x[0][back], pred))
    return named | {"reference": order[reference[0]]}


def mirrored_arrays(
    config: ModelConfig,
    num_refs: int,
    variables: dict,
    pixels: UInt8[Array, "V H W 3"],
    reference: Int[Array, ""],
    points: Float[Array, "V H W 3"],
    confidence: Float[Array, "V H W"],
) -> dict[str, Array]:
    """``points`` and ``confidence`` of the mean of these and of `forward` on the mirror images."""
    config = replace(config, gaussians=False)
    found = forward(config, num_refs, variables, pixels[:, :, ::-1], reference)
    return arrays_of(mean_of_both(Prediction(points, confidence), found))


def encode(config: ModelConfig, variables: dict, pixels: Array) -> dict[str, Array]:
    """The encoder's ``tokens``, photographs in their own order."""
    return {"tokens": encode_views(variables, images_from_pixels(pixels), config)}


def view_features(config: ModelConfig, variables: dict, pixels: Array) -> dict[str, Array]:
    """``features`` [V, D]: of each photograph the mean of the encoder's tokens."""
    return {"features": encode_views(variables, images_from_pixels(pixels), config).mean(axis=1)}


def surest_of_group_arrays(
    config: ModelConfig, at_once: int, variables: dict, pixels: Array, tokens: Array, start: Array
) -> dict[str, Array]:
    """``at_once`` photographs from ``start`` on tried as references; as of `surest_arrays`."""
    given = images_from_pixels(pixels)[None], tokens[None], start
    choice = surest_of_group(variables, *given, config=config, at_once=at_once)
    pred = _rendered_scales(choice.prediction, config.max_scale)
    named = arrays_of(jax.tree.map(lambda x: x[0], pred))
    return named | {"reference": choice.reference[0], "scores": choice.scores[0]}


def arrays_of(pred: Prediction) -> dict[str, Array]:
    """A prediction as the dict that programs return."""
    named = {"points": pred.points, "confidence": pred.confidence}
    return named | (vars(pred.gaussians) if pred.gaussians is not None else {})


def _rendered_scales(pred: Prediction, max_scale: float) -> Prediction:
    """Gaussians' scales as training rendered them, in the units of the points."""
    if pred.gaussians is None:
        return pred
    factor = mean_distance(pred.points, jnp.isfinite(pred.points).all(axis=-1))
    scales = clip_scales(pred.gaussians.scales, factor, max_scale)
    scales = scales * factor[:, None, None, None, None]
    return pred.replace(gaussians=pred.gaussians.replace(scales=scales))


# ---------------------------------------------------------------- windows


def window_similarity(
    source: Float[Array, "n 3"], target: Float[Array, "n 3"], weights: Float[Array, " n"]
) -> dict[str, Array]:
    """``scale``, ``rotation`` and ``translation`` of `robust_similarity`."""
    scale, rotation, translation = robust_similarity(source, target, weights)
    return {"scale": scale, "rotation": rotation, "translation": translation}


# ---------------------------------------------------------------- cameras


def found_cameras(
    points: Float[Array, "V H W 3"],
    confidence: Float[Array, "V H W"],
    focal_px: Float[Array, " V"],
    principal_px: Float[Array, "V 2"],
    aspect: Float[Array, " V"],
    reference: Int[Array, ""],
) -> dict[str, Array]:
    """Focal lengths ``focal_px [V]``, ``world_from_cam [V, 4, 4]`` and ``ok [V]``.

    Focal lengths are those along x, ``aspect`` times those along y. One of 0 is not known: it is
    found from the reference view's pointmap (as in training), else a usual phone's is taken. Each
    view is a batch of its own, so that each has its own focal length and principal point. Poses
    that are not ok are NaN.
    """
    own = points[reference], confidence[reference]
    found = from_pointmaps.confident_focal(*own, principal_px=principal_px[reference])
    usable = jnp.isfinite(found) & (found > 0)
    found = jnp.where(usable, found, _FALLBACK_FOCAL_PER_WIDTH * max(confidence.shape[1:]))
    focal_px = jnp.where(focal_px > 0, focal_px, found)
    poses = from_pointmaps.poses_from_pointmaps(
        *(points[:, None], confidence[:, None], focal_px),
        principal_px=principal_px[:, None],
        aspect=aspect,
    )
    world_from_cam = poses.ref_from_cam[:, 0]
    return {"focal_px": focal_px, "world_from_cam": world_from_cam, "ok": poses.ok[:, 0]}


def own_focal_factors(
    points: Float[Array, "V H W 3"],
    confidence: Float[Array, "V H W"],
    world_from_cam: Float[Array, "V 4 4"],
    focal_px: Float[Array, ""],
    principal_px: Float[Array, "V 2"],
) -> dict[str, Array]:
    """`own_focals` beside the common ``focal_px``: ``factor``, ``usable`` and ``own`` [V]."""
    found = own_focals(points, confidence, focal_px, world_from_cam, principal_px)
    return {"factor": found.factor, "usable": found.usable, "own": found.own}


# What `programs.program` makes a program of, by name: who asks for one may not import this module.
PROGRAMS = {
    function.__name__: function
    for function in (
        forward_arrays,
        surest_arrays,
        middle_arrays,
        mirrored_arrays,
        encode,
        view_features,
        surest_of_group_arrays,
        window_similarity,
        found_cameras,
        own_focal_factors,
    )
}
