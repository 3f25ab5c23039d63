"""Training samples from integers: a room, a walk and its views, all inside one jitted program."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from data.rooms.options import Options
from data.rooms.render import render
from data.rooms.scene import DEFAULT_OPTIONS, Scene, make_scene, scene_key
from data.rooms.walk import choose_poses
from mvdust3r_jax.products import exact_products
from mvdust3r_jax.types import AnyArray, Batch, images_from_01


def scene_intrinsics(scene: Scene, height: int, width: int) -> Float[Array, "3 3"]:
    """Square pixels, principal point in the middle, the scene's horizontal field of view."""
    focal = 0.5 * width / jnp.tan(0.5 * jnp.deg2rad(scene.fov_deg))
    zero, one = jnp.zeros(()), jnp.ones(())
    rows = [[focal, zero, one * (width - 1) / 2], [zero, focal, one * (height - 1) / 2]]
    return jnp.stack([jnp.stack(row) for row in [*rows, [zero, zero, one]]])


def _sample(seed, baseline, num_inputs, num_targets, height, width, options):
    """One sample without the batch axis."""
    scene = make_scene(seed, options)
    intrinsics = scene_intrinsics(scene, height, width)
    key = jax.random.fold_in(scene_key(jnp.asarray(seed, jnp.uint32)), 1)
    wanted = num_inputs, num_targets, intrinsics, height, width, baseline
    poses = choose_poses(key, scene, *wanted, options.hand_held)
    stacked = jnp.broadcast_to(intrinsics, (num_inputs + num_targets, 3, 3))
    views = render(scene, poses, stacked, height, width)
    return Batch(images_from_01(views.images_01), views.depth_m, poses, stacked)


@partial(
    jax.jit,
    static_argnames=(
        "num_inputs",
        "num_targets",
        "height",
        "width",
        "options",
        "scenes_at_once",
    ),
)
@exact_products
def sample_batch(
    seeds: Integer[AnyArray, " B"],
    num_inputs: int,
    num_targets: int,
    height: int,
    width: int,
    *,
    baseline: float | Float[Array, ""] = 1.0,
    options: Options = DEFAULT_OPTIONS,
    scenes_at_once: int = 1,
) -> Batch:
    """Samples of the given seeds (below 2^32), images in [-1, 1].

    baseline: how far apart the views are, 1 for a few steps each; any number, not recompiled.
    scenes_at_once: scenes rendered side by side; 1 is fastest on a CPU, more fill an accelerator.
    Raises ValueError for fewer than one input view or negative targets.
    """
    if num_inputs < 1 or num_targets < 0:
        raise ValueError(f"expected >= 1 inputs and >= 0 targets, got {num_inputs}, {num_targets}")

    def one(seed):
        return _sample(seed, baseline, num_inputs, num_targets, height, width, options)

    seeds = jnp.asarray(seeds).astype(jnp.uint32)
    return jax.lax.map(one, seeds, batch_size=scenes_at_once if scenes_at_once > 1 else None)


def sample_trajectory(
    seed: int,
    num_inputs: int,
    num_targets: int,
    height: int,
    width: int,
    *,
    baseline: float = 1.0,
    options: Options = DEFAULT_OPTIONS,
) -> Batch:
    """The sample of one seed, without the batch axis; equal to its row of ``sample_batch``."""
    batch = sample_batch(
        jnp.array([seed], jnp.uint32),
        num_inputs,
        num_targets,
        height,
        width,
        baseline=baseline,
        options=options,
    )
    return jax.tree.map(lambda x: x[0], batch)
