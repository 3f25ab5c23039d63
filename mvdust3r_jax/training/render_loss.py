"""Loss terms that render the predicted Gaussians in the true cameras of all views of a sample.

Scenes are normalized and rendered by `splat.pointmaps`; here are the terms, each a function of a
rendered scene, and their gradient, taken scene by scene.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int

from mvdust3r_jax.geometry.transforms import normalize, safe_norm
from mvdust3r_jax.geometry.truth import reference_from_cameras
from mvdust3r_jax.metrics import lpips
from mvdust3r_jax.splat.gaussians import view_colors
from mvdust3r_jax.splat.pointmaps import Scenes, clip_scales, normalized_scenes, render
from mvdust3r_jax.training import losses
from mvdust3r_jax.training.losses import Pool
from mvdust3r_jax.training.objective_config import ObjectiveConfig
from mvdust3r_jax.types import Batch, Prediction, images_from_01


@dataclasses.dataclass
class Rendered:
    """What a term of scenes is computed from; images exist once a term asks for them.

    scenes: N of them. views: indices of those rendered. perceptual: LPIPS weights, None without.
    """

    config: ObjectiveConfig
    scenes: Scenes
    views: Int[Array, " C"]
    perceptual: dict | None

    @functools.cached_property
    def clipped_scales(self) -> Float[Array, "N V H W 3"]:
        """Of the Gaussians, as they are rendered."""
        scales = self.scenes.prediction.gaussians.scales
        return clip_scales(scales, self.scenes.factor, self.config.max_scale)

    @functools.cached_property
    def images(self) -> tuple[Float[Array, "N C H W 3"], Int[Array, "N C"]]:
        """Rendered views in [-1, 1], and intersections that did not fit."""
        scenes = self.scenes
        return render(
            *(scenes.points, scenes.prediction, self.clipped_scales, scenes.pixels),
            *(scenes.ref_from_cam[:, self.views], scenes.intrinsics[:, self.views]),
            sh_degree=self.config.sh_degree,
        )

    @property
    def true_images(self) -> Float[Array, "N C H W 3"]:
        """What the rendered views should be."""
        return self.scenes.images[:, self.views]


def rgb(scene: Rendered) -> Float[Array, " N"]:
    """Mean Euclidean color distance over the valid pixels."""
    valid = scene.scenes.valid[:, scene.views]
    return losses.rgb_error(scene.images[0], scene.true_images, valid)


def perceptual(scene: Rendered) -> Float[Array, " N"] | None:
    """LPIPS of whole images; None where its weights are missing."""
    if scene.perceptual is None:
        return None
    pairs = (x.reshape(-1, *x.shape[2:]) for x in (scene.images[0], scene.true_images))
    distance = lpips.distance(scene.perceptual, *pairs)
    return distance.reshape(scene.true_images.shape[:2]).mean(axis=1)


def scale_clip(scene: Rendered) -> Float[Array, " N"]:
    """Mean squared excess of the scales over what is rendered."""
    scenes = scene.scenes
    scales = scenes.prediction.gaussians.scales
    return losses.scale_excess(scales, scenes.factor, scene.config.max_scale)


def sh_color(scene: Rendered) -> Float[Array, " N"]:
    """Mean RGB distance in [-1, 1] of each Gaussian, seen from its own camera, to its pixel."""
    scenes = scene.scenes
    centers = scenes.ref_from_cam[:, : scenes.points.shape[1], :3, 3]
    directions = normalize(jax.lax.stop_gradient(scenes.points) - centers[:, :, None, None])
    colors = view_colors(
        rearrange(scenes.prediction.gaussians.colors, "n v h w (k c) -> k c (n v h w)", c=3),
        tuple(rearrange(directions, "n v h w c -> c (n v h w)")),
        scene.config.sh_degree,
    )
    seen = images_from_01(colors.T.reshape(scenes.pixels.shape))
    return safe_norm(seen - scenes.pixels).mean(axis=(1, 2, 3))


# Name -> function of a rendered scene; see `objective.POINT_TERMS`.
SCENE_TERMS: dict[str, Callable[[Rendered], Float[Array, " N"] | None]] = {
    "rgb": rgb,
    "lpips": perceptual,
    "scale_clip": scale_clip,
    "sh_color": sh_color,
}


def scene_terms(scene: Rendered) -> dict[str, Float[Array, " N"]]:
    """Every term of scenes that has a weight, and what is logged beside them."""
    computed = {n: term(scene) for n, term in SCENE_TERMS.items() if n in scene.config.weights}
    terms = {name: value for name, value in computed.items() if value is not None}
    terms["mean_scale"] = scene.clipped_scales.mean(axis=(1, 2, 3, 4))
    if "images" in vars(scene):
        terms["overflow"] = scene.images[1].sum(axis=1).astype(jnp.float32)
    return terms


def _one_scene(
    config: ObjectiveConfig,
    prediction: Prediction,
    ref_from_cam: Float[Array, "S 4 4"],
    sample: Batch,
    views: Int[Array, " C"],
    perceptual: dict | None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Weighted sum and terms of one sample on one path; leading axes are missing everywhere."""
    given = jax.tree.map(lambda x: x[None], (prediction, sample, ref_from_cam))
    scenes = normalized_scenes(*given)
    terms = scene_terms(Rendered(config, scenes, views, perceptual))
    terms = jax.tree.map(lambda x: jnp.where(scenes.known, x, 0.0)[0], terms)
    weighted = [config.weights[name] * x for name, x in terms.items() if name in config.weights]
    return sum(weighted, start=jnp.float32(0)), terms


class _Constants(NamedTuple):
    """What rendering needs and gives no gradient to: per scene, and for all scenes."""

    ref_from_cam: Float[Array, "N S 4 4"]
    sample: Int[Array, " N"]
    batch: Batch
    views: Int[Array, " C"]
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
    return jax.vmap(lambda c, g: jax.tree.map(lambda x: c * x, g))(by_scene, gradients), None


_scene_losses.defvjp(_losses_and_gradients, _pull_back)


def _choose(key: Array, total: int, wanted: int) -> Int[Array, " chosen"]:
    """``wanted`` of ``total`` indices, all of them where ``wanted`` is 0 or too large."""
    if not 0 < wanted < total:
        return jnp.arange(total)
    return jax.random.permutation(key, total)[:wanted]


def render_terms(
    config: ObjectiveConfig,
    prediction: Prediction,
    batch: Batch,
    key: Array,
    *,
    pool: Pool,
    perceptual: dict | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Weighted sum, and means of ``scene_terms`` over samples and chosen paths.

    ``prediction`` is [B, R, V, ...]. Only the weighted sum has a gradient, and only with respect to
    the prediction. A sample without any known depth has no scale: it contributes 0 (the published
    scale term explodes there).
    """
    if prediction.gaussians is None:
        raise ValueError("render terms have a weight, but this variant has no Gaussian heads")
    num_refs = prediction.points.shape[1]
    path_key, view_key = jax.random.split(key)
    paths = _choose(path_key, num_refs, config.render_paths)
    views = _choose(view_key, batch.images.shape[1], config.render_views)

    def by_scene(x: Array) -> Array:
        return x[:, paths].reshape(-1, *x.shape[2:])

    poses = reference_from_cameras(batch.world_from_cam, num_refs)
    predictions, poses = jax.tree.map(by_scene, (prediction, poses))
    samples = jnp.repeat(jnp.arange(batch.images.shape[0]), len(paths))
    constants = _Constants(poses, samples, batch, views, perceptual)
    weighted, terms = _scene_losses(config, predictions, constants)
    mean = functools.partial(losses.sample_mean, pool=pool, per_sample=len(paths))
    means = jax.tree.map(mean, (weighted, terms))
    return means[0], jax.lax.stop_gradient(means[1])
