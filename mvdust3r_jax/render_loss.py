"""Loss terms that render the predicted Gaussians in the true cameras of all views of a sample.

The scene is normalised first: predicted points by the mean distance of the input views' points to
the reference camera, true camera positions by the same measure of the truth, render-only views
included. Every input pixel is one Gaussian. With ``sh_degree`` 0 it has its own pixel's colour;
otherwise its spherical harmonics give a colour in [0, 1]. The background is white.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int

from mvdust3r_jax import losses, lpips
from mvdust3r_jax.geometry.camera import half_pixel_shift, unproject
from mvdust3r_jax.geometry.pointmaps import mean_distance
from mvdust3r_jax.geometry.transforms import invert_rigid, normalize, safe_norm, transform_points
from mvdust3r_jax.splat import rasterize
from mvdust3r_jax.splat.gaussians import view_colors
from mvdust3r_jax.types import Batch, Prediction

if TYPE_CHECKING:
    from mvdust3r_jax.objective import ObjectiveConfig

# The published renderer's settings, in units of the normalised scene and pixels squared.
NEAR, FAR, EPS_2D = 0.01, 100.0, 0.1


def render(
    points: Float[Array, "N V H W 3"],
    prediction: Prediction,
    scales: Float[Array, "N V H W 3"],
    pixels: Float[Array, "N V H W 3"],
    ref_from_cam: Float[Array, "N C 4 4"],
    intrinsics: Float[Array, "N C 3 3"],
    *,
    sh_degree: int,
    capacity: int | None = None,
) -> tuple[Float[Array, "N C H W 3"], Int[Array, "N C"]]:
    """Images in [-1, 1] of all views' Gaussians together, and intersections that did not fit.

    ``points``, ``scales`` and the cameras' translations are in the normalised scene; ``intrinsics``
    follow the data's convention (first pixel's centre at (0, 0)).
    """
    height, width = points.shape[2:4]

    def one(means, quats, scales, opacities, colours, ref_from_cam, intrinsics):
        cameras = ref_from_cam.shape[0]
        image, _, info = rasterize(
            means, quats, scales, opacities, colours,
            invert_rigid(ref_from_cam), half_pixel_shift(intrinsics), width, height,
            near_plane=NEAR, far_plane=FAR, eps2d=EPS_2D, backgrounds=jnp.ones((cameras, 3)),
            sh_degree=sh_degree or None, capacity=capacity,
        )  # fmt: skip
        return image, info.overflow

    def flat(x: Array) -> Array:
        return x.reshape(x.shape[0], -1, *x.shape[4:])

    gaussians = prediction.gaussians
    colours = flat(pixels)
    if sh_degree:
        colours = rearrange(gaussians.colors, "n v h w (k c) -> n (v h w) k c", c=3)
    images, overflow = jax.vmap(one)(
        *(flat(points), flat(gaussians.rotations), flat(scales), flat(gaussians.opacities)),
        *(colours, ref_from_cam, intrinsics),
    )
    return (2 * images - 1 if sh_degree else images), overflow


def _choose(key: Array, total: int, wanted: int) -> Int[Array, "chosen"]:
    """``wanted`` of ``total`` indices, all of them where ``wanted`` is 0 or too large."""
    if not 0 < wanted < total:
        return jnp.arange(total)
    return jax.random.permutation(key, total)[:wanted]


def _sh_colour_error(
    points: Float[Array, "N V H W 3"],
    colors: Float[Array, "N V H W K3"],
    centres: Float[Array, "N V 3"],
    pixels: Float[Array, "N V H W 3"],
    degree: int,
) -> Float[Array, "N"]:
    """Mean RGB distance in [-1, 1] of each Gaussian, seen from its own camera, to its pixel."""
    directions = normalize(jax.lax.stop_gradient(points) - centres[:, :, None, None])
    colours = view_colors(
        rearrange(colors, "n v h w (k c) -> k c (n v h w)", c=3),
        rearrange(directions, "n v h w c -> c (n v h w)"),
        degree,
    )
    return safe_norm(2 * colours.T.reshape(pixels.shape) - 1 - pixels).mean(axis=(1, 2, 3))


class Scenes(NamedTuple):
    """Samples and chosen paths on one axis N, cameras and points in the normalised scene.

    factor: measure of the prediction, without gradient. known: samples with any known depth; where
    there is none the factors would be 1e-8, and are 1 instead.
    """

    prediction: Prediction
    points: Float[Array, "N V H W 3"]
    factor: Float[Array, "N"]
    known: Bool[Array, "N"]
    ref_from_cam: Float[Array, "N S 4 4"]
    intrinsics: Float[Array, "N S 3 3"]
    images: Float[Array, "N S H W 3"]
    valid: Bool[Array, "N S H W"]

    @property
    def pixels(self) -> Float[Array, "N V H W 3"]:
        """Images of the input views."""
        return self.images[:, : self.points.shape[1]]


def normalised_scenes(
    prediction: Prediction, batch: Batch, ref_from_cam: Float[Array, "N S 4 4"]
) -> Scenes:
    """Scenes of N (sample, path) pairs: their predictions, samples, and cameras in metres."""
    num_inputs = prediction.points.shape[1]
    valid = losses.known_depth(batch)
    depth_m = jnp.where(valid, batch.depth_m, 0.0)
    truth = transform_points(ref_from_cam, unproject(depth_m, batch.intrinsics))
    known = valid[:, :num_inputs].any(axis=(1, 2, 3))
    factor = jnp.where(known, mean_distance(prediction.points, valid[:, :num_inputs]), 1.0)
    true_factor = jnp.where(known, mean_distance(truth, valid), 1.0)
    return Scenes(
        prediction=prediction,
        points=prediction.points / factor[:, None, None, None, None],
        factor=jax.lax.stop_gradient(factor),
        known=known,
        ref_from_cam=ref_from_cam.at[..., :3, 3].divide(true_factor[:, None, None]),
        intrinsics=batch.intrinsics,
        images=batch.images,
        valid=valid,
    )


def scene_terms(
    config: ObjectiveConfig,
    scenes: Scenes,
    views: Int[Array, "C"],
    perceptual: dict | None,
) -> dict[str, Float[Array, "N"]]:
    """Every term that has a weight or is logged beside one, of each scene."""
    gaussians = scenes.prediction.gaussians
    clipped = losses.clip_scales(gaussians.scales, scenes.factor, config.max_scale)
    terms = {"mean_scale": clipped.mean(axis=(1, 2, 3, 4))}
    if config.scale_clip:
        terms["scale_clip"] = losses.scale_excess(gaussians.scales, scenes.factor, config.max_scale)
    if config.rgb or config.lpips:
        rendered, overflow = render(
            *(scenes.points, scenes.prediction, clipped, scenes.pixels),
            *(scenes.ref_from_cam[:, views], scenes.intrinsics[:, views]),
            sh_degree=config.sh_degree,
        )
        wanted = scenes.images[:, views]
        terms["rgb"] = losses.rgb_error(rendered, wanted, scenes.valid[:, views])
        terms["overflow"] = overflow.sum(axis=1).astype(jnp.float32)
        if config.lpips and perceptual is not None:
            pairs = (x.reshape(-1, *x.shape[2:]) for x in (rendered, wanted))
            distance = lpips.distance(perceptual, *pairs)
            terms["lpips"] = distance.reshape(rendered.shape[:2]).mean(axis=1)
    if config.sh_colour:
        centres = scenes.ref_from_cam[:, : scenes.points.shape[1], :3, 3]
        terms["sh_colour"] = _sh_colour_error(
            scenes.points, gaussians.colors, centres, scenes.pixels, config.sh_degree
        )
    return terms


def _one_scene(
    config: ObjectiveConfig,
    prediction: Prediction,
    ref_from_cam: Float[Array, "S 4 4"],
    sample: Batch,
    views: Int[Array, "C"],
    perceptual: dict | None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Weighted sum and terms of one sample on one path; leading axes are missing everywhere."""
    given = jax.tree.map(lambda x: x[None], (prediction, sample, ref_from_cam))
    scenes = normalised_scenes(*given)
    terms = scene_terms(config, scenes, views, perceptual)
    terms = jax.tree.map(lambda x: jnp.where(scenes.known, x, 0.0)[0], terms)
    weights = {
        "rgb": config.rgb,
        "lpips": config.lpips,
        "scale_clip": config.scale_clip,
        "sh_colour": config.sh_colour,
    }
    weighted = [weights[name] * x for name, x in terms.items() if name in weights]
    return sum(weighted, start=jnp.float32(0)), terms


class _Constants(NamedTuple):
    """What rendering needs and gives no gradient to: per scene, and for all scenes."""

    ref_from_cam: Float[Array, "N S 4 4"]
    sample: Int[Array, "N"]
    batch: Batch
    views: Int[Array, "C"]
    perceptual: dict | None


def _map_scenes(function: Callable, predictions: Prediction, constants: _Constants) -> Any:
    """``function`` of one scene after the other, so that memory is that of one."""

    def one(given):
        prediction, ref_from_cam, index = given
        sample = jax.tree.map(lambda x: x[index], constants.batch)
        return function(prediction, ref_from_cam, sample, constants.views, constants.perceptual)

    return jax.lax.map(one, (predictions, constants.ref_from_cam, constants.sample))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scene_losses(config: ObjectiveConfig, predictions: Prediction, constants: _Constants):
    """Weighted sum [N] and terms of every scene; only the sum has a gradient."""
    return _map_scenes(functools.partial(_one_scene, config), predictions, constants)


def _losses_and_gradients(config: ObjectiveConfig, predictions: Prediction, constants: _Constants):
    # A scene's gradient is taken right after its value: kept is a gradient as large as the
    # prediction, not what rendering computed, and nothing is rendered twice.
    scene = jax.value_and_grad(functools.partial(_one_scene, config), has_aux=True)
    return _map_scenes(scene, predictions, constants)


def _pull_back(config: ObjectiveConfig, gradients: Prediction, cotangents: tuple[Array, dict]):
    del config
    by_scene = cotangents[0]
    return jax.tree.map(lambda g: jnp.einsum("n,n...->n...", by_scene, g), gradients), None


_scene_losses.defvjp(_losses_and_gradients, _pull_back)


def render_terms(
    config: ObjectiveConfig,
    prediction: Prediction,
    batch: Batch,
    key: Array,
    *,
    perceptual: dict | None = None,
    samples: Float[Array, ""] | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Weighted sum, and means of ``scene_terms`` over samples and chosen paths.

    ``prediction`` is [B, R, V, ...]. Only the weighted sum has a gradient, and only with respect to
    the prediction. A sample without any known depth has no scale: it contributes 0 (the published
    scale term explodes there). samples: number in the whole batch, where these are some of it.
    """
    if prediction.gaussians is None:
        raise ValueError("render terms have a weight, but this variant has no Gaussian heads")
    num_refs = prediction.points.shape[1]
    path_key, view_key = jax.random.split(key)
    paths = _choose(path_key, num_refs, config.render_paths)
    views = _choose(view_key, batch.images.shape[1], config.render_views)

    def by_scene(x: Array) -> Array:
        return x[:, paths].reshape(-1, *x.shape[2:])

    poses = losses.reference_from_cameras(batch.world_from_cam, num_refs)
    predictions, poses = jax.tree.map(by_scene, (prediction, poses))
    of_scene = jnp.repeat(jnp.arange(batch.images.shape[0]), len(paths))
    constants = _Constants(poses, of_scene, batch, views, perceptual)
    weighted, terms = _scene_losses(config, predictions, constants)
    scenes = None if samples is None else samples * len(paths)
    means = jax.tree.map(lambda x: losses.sample_mean(x, scenes), (weighted, terms))
    return means[0], jax.lax.stop_gradient(means[1])
