"""``rasterize``: Gaussians to images with the signature and semantics of gsplat 1.4, in XLA only."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float, Int

from mvdust3r_jax.splat.composite import Picture, composite, composite_gradient
from mvdust3r_jax.splat.gaussians import Gaussians3D
from mvdust3r_jax.splat.project import Camera, View, footprint, project
from mvdust3r_jax.splat.tiles import build_lists, grid_shape

LANES = 256


@struct.dataclass
class RasterInfo:
    overflow: Int[Array, "C"]
    intersections: Int[Array, "C"]
    radii: Int[Array, "C G"]
    contributors: Int[Array, "C H W"]


def default_capacity(num_gaussians: int, width: int, height: int) -> int:
    blocks = -(-height // 4) * -(-width // 4)
    return max(1, min(num_gaussians * blocks, max(8 * num_gaussians, 1 << 18)))


def _forward_camera(gaussians, camera, view, capacity):
    shape = footprint(gaussians, camera, view)
    splats = project(gaussians, camera, shape.radii > 0, view)
    lists = build_lists(splats.means, splats.opacities, shape, view, capacity)
    picture = composite(splats, lists, view, LANES)
    return picture, lists, shape.radii


def _backward_camera(gaussians, camera, lists, picture, radii, cotangents, view):
    splats, pull_back = jax.vjp(lambda g, c: project(g, c, radii > 0, view), gaussians, camera)
    return pull_back(composite_gradient(splats, lists, picture, *cotangents, view, LANES))


def _forward(view, capacity, gaussians, cameras):
    return lax.map(lambda camera: _forward_camera(gaussians, camera, view, capacity), cameras)


def _backward(view, gaussians, cameras, saved, cotangents):
    def add_camera(total, one):
        camera, (picture, lists, radii), cotangent = one
        by_gaussian, by_camera = _backward_camera(
            gaussians, camera, lists, picture, radii, cotangent, view
        )
        return jax.tree.map(jnp.add, total, by_gaussian), by_camera

    zero = jax.tree.map(jnp.zeros_like, gaussians)
    return lax.scan(add_camera, zero, (cameras, saved, cotangents))


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
    gaussians = Gaussians3D(means.T, quats.T, scales.T, opacities, colors.transpose(1, 2, 0))
    if capacity is None:
        capacity = default_capacity(means.shape[0], width, height)
    rgb, transmittance, total, radii, drawn = _render(
        view, capacity, gaussians, Camera(viewmats, Ks)
    )
    if backgrounds is not None:
        rgb = rgb + transmittance[..., None] * backgrounds[:, None, None]
    info = RasterInfo(jnp.maximum(total - capacity, 0), total, radii, drawn)
    return rgb, 1 - transmittance[..., None], info
