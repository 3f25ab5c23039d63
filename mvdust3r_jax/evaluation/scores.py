"""The numbers of an evaluation: what is computed from a method's answer and the truth.

A metric is a function of ``(estimate, batch, truth)`` in ``GEOMETRY``, or of two images in
``IMAGES``; its numbers are one per sample, NaN where it has no value, and `report.COLUMNS` says
which of them the tables show. Pure functions of arrays, jitted by the caller. Lengths in meters,
angles in degrees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mvdust3r_jax.evaluation.estimate import Estimate, Truth, ground_truth
from mvdust3r_jax.geometry.pointmaps import take_view
from mvdust3r_jax.metrics import images as image_metrics
from mvdust3r_jax.metrics import lpips
from mvdust3r_jax.metrics import pointmaps as metrics
from mvdust3r_jax.metrics.poses import (
    PairErrors,
    mean_average_accuracy,
    pair_errors,
    pair_errors_release,
    share_below,
)
from mvdust3r_jax.products import exact_products
from mvdust3r_jax.splat.pointmaps import clip_scales, normalized_scenes, render
from mvdust3r_jax.splat.rasterize import default_capacity
from mvdust3r_jax.types import Batch, Prediction, images_01_from

Numbers = dict[str, Float[Array, " B"]]
# The relative error of a focal length counts at most this much, one that was not found just so.
FOCAL_CAP = 10.0


def point_numbers(estimate: Estimate, batch: Batch, truth: Truth) -> Numbers:
    """Distance of the median-aligned clouds, and whether it is below each threshold."""
    del batch
    errors = metrics.point_errors(estimate.points, truth.points, truth.valid)
    numbers = {"nd": errors.nd, "nd_release": errors.nd_release}
    accurate, accurate_release = metrics.accuracy(errors.nd), metrics.accuracy(errors.nd_release)
    for i, threshold_m in enumerate(metrics.ACCURACY_THRESHOLDS_M):
        numbers[f"dac{threshold_m}"] = accurate[:, i]
        numbers[f"dac{threshold_m}_release"] = accurate_release[:, i]
    return numbers


def similarity_numbers(estimate: Estimate, batch: Batch, truth: Truth) -> Numbers:
    """Mean distance after the best similarity."""
    del batch
    error = metrics.similarity_error(estimate.points, truth.points, truth.valid)
    return {"similarity_error_m": error}


def focal_numbers(estimate: Estimate, batch: Batch, truth: Truth) -> Numbers:
    """Relative error of the reference view's focal length; one that is not finite costs the cap.

    NaN where nothing of that view's depth is known.
    """
    true_focal_px = take_view(batch.intrinsics, estimate.reference)[:, 0, 0]
    error = jnp.abs(estimate.focal_px / true_focal_px - 1)
    capped = jnp.where(error < FOCAL_CAP, error, FOCAL_CAP)
    seen = truth.valid.any(axis=(-2, -1))
    known = jnp.take_along_axis(seen, estimate.reference[:, None], axis=1)[:, 0]
    return {"focal_error": jnp.where(known, capped, jnp.nan)}


def _pose_numbers(errors: PairErrors, suffix: str) -> Numbers:
    rotation, translation = errors.rotation_deg, errors.translation_deg
    return {
        f"rre_deg{suffix}": rotation.mean(axis=-1),
        f"rte_deg{suffix}": jnp.nanmean(translation, axis=-1),
        f"rra15{suffix}": share_below(rotation),
        f"rta15{suffix}": share_below(translation),
        f"maa30{suffix}": mean_average_accuracy(errors),
    }


def pose_numbers(estimate: Estimate, batch: Batch, truth: Truth) -> Numbers:
    """Errors of all pairs' relative poses, as usual and as published."""
    del batch
    num_inputs = estimate.points.shape[1]
    poses = estimate.ref_from_cam, truth.ref_from_cam[:, :num_inputs], estimate.pose_ok
    numbers = {"pose_ok_share": estimate.pose_ok.mean(axis=-1)}
    numbers |= _pose_numbers(pair_errors(*poses), "")
    return numbers | _pose_numbers(pair_errors_release(*poses), "_release")


GEOMETRY: tuple[Callable[[Estimate, Batch, Truth], Numbers], ...] = (
    point_numbers,
    similarity_numbers,
    focal_numbers,
    pose_numbers,
)
# Of images and truth [B, T, H, W, 3] in [0, 1]: one number per image. LPIPS is apart: see below.
IMAGES: dict[str, Callable[[Array, Array], Float[Array, "B T"]]] = {
    "psnr_db": image_metrics.psnr,
    "ssim": image_metrics.ssim,
    "ssim_release": image_metrics.ssim_release,
}


def score(estimate: Estimate, batch: Batch) -> Numbers:
    """Every number about points, focal length and poses except the chamfer distance."""
    truth = ground_truth(batch, estimate.points.shape[1], estimate.reference)
    numbers: Numbers = {}
    for metric in GEOMETRY:
        numbers |= metric(estimate, batch, truth)
    return numbers


def aligned_clouds(estimate: Estimate, batch: Batch) -> tuple[Array, Array, Array]:
    """Aligned prediction, truth ``[B, n, 3]`` and mask ``[B, n]``, for the chamfer distance."""
    truth = ground_truth(batch, estimate.points.shape[1], estimate.reference)
    clouds = metrics.align_pointmaps(estimate.points, truth.points, truth.valid)
    size = len(truth.valid)
    return (*(x.reshape(size, -1, 3) for x in clouds), truth.valid.reshape(size, -1))


def score_and_clouds(estimate: Estimate, batch: Batch):
    """Both as one program, in which the alignment is computed once."""
    return score(estimate, batch), aligned_clouds(estimate, batch)


@exact_products
def novel_views(
    estimate: Estimate, batch: Batch, *, sh_degree: int, max_scale: float, capacity: int
) -> tuple[Float[Array, "B T H W 3"], Int[Array, "B T"]]:
    """The estimate's Gaussians seen by the true render-only cameras, in [-1, 1], as in training.

    Prediction and cameras are each divided by their own measure of the scene (`splat.pointmaps`).
    Also tile intersections beyond the capacity: images with any are not exact. `room_for` is where
    to begin, and `splat.pointmaps.with_room_for_all` goes on.
    """
    num_inputs = estimate.points.shape[1]
    ref_from_cam = ground_truth(batch, num_inputs, estimate.reference).ref_from_cam
    prediction = Prediction(estimate.points, estimate.confidence, estimate.gaussians)
    scenes = normalized_scenes(prediction, batch, ref_from_cam)
    return render(
        scenes.points,
        prediction,
        clip_scales(estimate.gaussians.scales, scenes.factor, max_scale),
        scenes.pixels,
        scenes.ref_from_cam[:, num_inputs:],
        scenes.intrinsics[:, num_inputs:],
        sh_degree=sh_degree,
        capacity=capacity,
    )


def room_for(estimate: Estimate) -> int:
    """The rasterizer's default capacity for all Gaussians of a sample."""
    views, height, width = estimate.confidence.shape[1:]
    return default_capacity(views * height * width, width, height)


def score_images_plain(
    images: Float[Array, "B T H W 3"], truth: Float[Array, "B T H W 3"]
) -> Numbers:
    """``IMAGES`` of renders (clipped) and truth, both in [-1, 1]; means over the views."""
    pair = images_01_from(jnp.clip(images, -1.0, 1.0)), images_01_from(truth)
    return {name: metric(*pair).mean(axis=1) for name, metric in IMAGES.items()}


def score_images(
    perceptual: dict[str, Any],
    images: Float[Array, "B T H W 3"],
    truth: Float[Array, "B T H W 3"],
) -> Numbers:
    """The same with LPIPS (``perceptual``: its weights); images smaller than it takes lack it."""
    numbers = score_images_plain(images, truth)
    if min(images.shape[2:4]) >= lpips.MIN_SIDE:
        flat = (x.reshape(-1, *x.shape[2:]) for x in (jnp.clip(images, -1.0, 1.0), truth))
        distance = lpips.distance(perceptual, *flat)
        numbers["lpips"] = distance.reshape(images.shape[:2]).mean(axis=1)
    return numbers
