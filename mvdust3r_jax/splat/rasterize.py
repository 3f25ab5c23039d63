"""``rasterize``: Gaussians to images with the signature and semantics of gsplat 1.4, in XLA only."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Int

from mvdust3r_jax.splat.composite import CPU_SCHEDULE, WIDE_SCHEDULE, composite, composite_gradient
from mvdust3r_jax.splat.gaussians import gaussians_3d
from mvdust3r_jax.splat.project import Camera, View, footprint, project
from mvdust3r_jax.splat.tiles import build_lists


@struct.dataclass
class RasterInfo:
    overflow: Int[Array, "C"]
    intersections: Int[Array, "C"]
    radii: Int[Array, "C G"]
    contributors: Int[Array, "C H W"]


def default_capacity(num_gaussians: int, width: int, height: int) -> int:
    blocks = -(-height // 4) * -(-width // 4)
    return max(1, min(num_gaussians * blocks, max(8 * num_gaussians, 1 << 18)))


def _draw(splats, lists, view):
    def run(schedule):
        return lambda splats, lists: composite(splats, lists, view, schedule)

    return lax.platform_dependent(splats, lists, cpu=run(CPU_SCHEDULE), default=run(WIDE_SCHEDULE))


def _draw_gradient(splats, lists, picture, cotangents, view):
    def run(schedule):
        return lambda *args: composite_gradient(*args, view, schedule)

    return lax.platform_dependent(
        splats,
        lists,
        picture,
        cotangents,
        cpu=run(CPU_SCHEDULE),
        default=run(WIDE_SCHEDULE),
    )


def _forward(view, capacity, gaussians, cameras):
    def one_camera(camera):
        shape = footprint(gaussians, camera, view)
        splats = project(gaussians, camera, shape.radii > 0, view)
        lists = build_lists(splats, shape, view, capacity)
        return _draw(splats, lists, view), lists, shape.radii

    return lax.map(one_camera, cameras)


def _backward(view, gaussians, cameras, saved, cotangents):
    def one_camera(total, given):
        camera, (picture, lists, radii), cotangent = given
        splats, pull_back = jax.vjp(lambda g, c: project(g, c, radii > 0, view), gaussians, camera)
        by_gaussians, by_camera = pull_back(_draw_gradient(splats, lists, picture, cotangent, view))
        return jax.tree.map(jnp.add, total, by_gaussians), by_camera

    zero = jax.tree.map(jnp.zeros_like, gaussians)
    return lax.scan(one_camera, zero, (cameras, saved, cotangents))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _render(view, capacity, gaussians, cameras):
    picture, lists, radii = sequential_vmap(partial(_forward, view, capacity))(gaussians, cameras)
    return picture.rgb, picture.transmittance, lists.total, radii, picture.drawn


def _render_forward(view, capacity, gaussians, cameras):
    saved = sequential_vmap(partial(_forward, view, capacity))(gaussians, cameras)
    picture, lists, radii = saved
    out = picture.rgb, picture.transmittance, lists.total, radii, picture.drawn
    return out, (gaussians, cameras, saved)


def _render_backward(view, capacity, saved, cotangents):
    del capacity
    return sequential_vmap(partial(_backward, view))(*saved, cotangents[:2])


_render.defvjp(_render_forward, _render_backward)


def rasterize(
    means,
    quats,
    scales,
    opacities,
    colors,
    viewmats,
    Ks,
    width,
    height,
    *,
    near_plane=0.01,
    far_plane=1e10,
    eps2d=0.3,
    backgrounds=None,
    sh_degree=None,
    capacity=None,
):
    view = View(width, height, near_plane, far_plane, eps2d, sh_degree)
    colors = colors[:, None] if sh_degree is None else colors[:, : (sh_degree + 1) ** 2]
    gaussians = gaussians_3d(means, quats, scales, opacities, colors)
    if capacity is None:
        capacity = default_capacity(means.shape[0], width, height)
    rgb, transmittance, total, radii, drawn = _render(
        view, capacity, gaussians, Camera(viewmats, Ks)
    )
    if backgrounds is not None:
        rgb = rgb + transmittance[..., None] * backgrounds[:, None, None]
    info = RasterInfo(jnp.maximum(total - capacity, 0), total, radii, drawn)
    return rgb, 1 - transmittance[..., None], info
