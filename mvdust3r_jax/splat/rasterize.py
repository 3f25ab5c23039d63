"""Gaussians to images with the signature and semantics of gsplat 1.4, in XLA only.

Exact, differentiable, and the same program on CPU, GPU and TPU. Cameras are camera-from-world with
OpenCV axes; the center of the first pixel is (0.5, 0.5) (``geometry.camera.half_pixel_shift``
brings a data set's intrinsics here); quaternions are wxyz. Cameras are processed one after another,
and so are the scenes of a ``vmap``: each alone is parallel enough, and memory stays that of one.
"""

from __future__ import annotations

import math
import operator
from functools import partial
from typing import SupportsIndex

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float, Int

from mvdust3r_jax import pytrees
from mvdust3r_jax.splat.arguments import check_shapes, check_view
from mvdust3r_jax.splat.composite import (
    CPU_SCHEDULE,
    WIDE_SCHEDULE,
    composite,
    composite_gradient,
)
from mvdust3r_jax.splat.gaussians import gaussians_3d
from mvdust3r_jax.splat.materialize import materialize
from mvdust3r_jax.splat.project import Camera, View, footprint, project
from mvdust3r_jax.splat.tiles import (
    block_spans,
    build_lists,
    grid_shape,
    listed_capacity,
    saturating_cumsum,
)
from mvdust3r_jax.types import AnyArray

# The default capacity: this many intersections per Gaussian and camera, and at least the second.
# Pixel-aligned rooms with scales in [1e-4, 4e-3] have 2 to 4 at 224x224 and 5 at 512x512.
_INTERSECTIONS_PER_GAUSSIAN = 8
_SMALLEST_CAPACITY = 1 << 18


@pytrees.dataclass
class RasterInfo:
    """What a call did, per camera. No gradient passes.

    overflow: intersections that did not fit the capacity; 0 means that the image is exact. Else the
    farthest splats are missing. intersections: (splat, 4x4 block) pairs that the scene has. They
    stop at 2^30 - 1, and overflow at that less the capacity. radii: pixels, 0 where culled.
    contributors: splats composited per pixel.
    """

    overflow: Int[Array, " C"]
    intersections: Int[Array, " C"]
    radii: Int[Array, "C G"]
    contributors: Int[Array, "C H W"]


def default_capacity(num_gaussians: int, width: int, height: int) -> int:
    """Intersections that a call holds per camera if none is given: 8 per Gaussian, 2^18 at least.

    Never more than there can be, with every Gaussian in every block. That is ample for
    pixel-aligned scenes. Scenes of large splats need ``capacity_for``.
    """
    rows, columns = grid_shape(View(width, height, 0.0, 0.0, 0.0, None))
    every = max(num_gaussians, 1) * rows * columns
    return min(every, max(_INTERSECTIONS_PER_GAUSSIAN * num_gaussians, _SMALLEST_CAPACITY))


def _draw(splats, lists, view):
    def run(schedule):
        return lambda *args: composite(*args, view, schedule)

    return lax.platform_dependent(splats, lists, cpu=run(CPU_SCHEDULE), default=run(WIDE_SCHEDULE))


def _draw_gradient(splats, lists, picture, cotangents, view):
    def run(schedule):
        return lambda *args: composite_gradient(*args, view, schedule)

    args = (splats, lists, picture, cotangents)
    return lax.platform_dependent(*args, cpu=run(CPU_SCHEDULE), default=run(WIDE_SCHEDULE))


def _see(gaussians, camera, view):
    shape = footprint(gaussians, camera, view)
    shape = materialize(shape, gaussians.opacities[0] < jnp.inf)
    splats = project(gaussians, camera, shape.radii > 0, view)
    return shape, materialize(splats, shape.radii[0] >= 0)


def _forward(view, capacity, gaussians, cameras):
    """Pictures, lists and radii of every camera."""

    def one_camera(camera):
        shape, splats = _see(gaussians, camera, view)
        lists = build_lists(splats, shape, view, capacity)
        return _draw(splats, lists, view), lists, shape.radii

    return lax.map(one_camera, cameras)


def _backward(view, gaussians, cameras, saved, cotangents):
    """Cotangents of the Gaussians, summed over the cameras, and of each camera."""

    def one_camera(total, given):
        camera, (picture, lists, radii), cotangent = given
        splats, pull_back = jax.vjp(lambda g, c: project(g, c, radii > 0, view), gaussians, camera)
        splats = materialize(splats, radii[0] >= 0)
        by_gaussians, by_camera = pull_back(_draw_gradient(splats, lists, picture, cotangent, view))
        return jax.tree.map(jnp.add, total, by_gaussians), by_camera

    zero = jax.tree.map(jnp.zeros_like, gaussians)
    return lax.scan(one_camera, zero, (cameras, saved, cotangents))


def _outputs(saved):
    picture, lists, radii = saved
    return picture.rgb, picture.transmittance, lists.total, radii, picture.drawn


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _render(view, capacity, gaussians, cameras):
    return _outputs(sequential_vmap(partial(_forward, view, capacity))(gaussians, cameras))


def _render_forward(view, capacity, gaussians, cameras):
    # Kept for the gradient: the lists and the pictures. Projections are computed again.
    saved = sequential_vmap(partial(_forward, view, capacity))(gaussians, cameras)
    return _outputs(saved), (gaussians, cameras, saved)


def _render_backward(view, capacity, saved, cotangents):
    del capacity
    with jax.enable_x64(False):
        return sequential_vmap(partial(_backward, view))(*saved, cotangents[:2])


_render.defvjp(_render_forward, _render_backward)


def _prepare(means, quats, scales, opacities, colors, sh_degree):
    colors = colors[:, None] if sh_degree is None else colors[:, : (sh_degree + 1) ** 2]
    return gaussians_3d(means, quats, scales, opacities, colors)


def rasterize(
    means: Float[Array, "G 3"],
    quats: Float[Array, "G 4"],
    scales: Float[Array, "G 3"],
    opacities: Float[Array, " G"],
    colors: Float[Array, "G 3"] | Float[Array, "G K 3"],
    viewmats: Float[Array, "C 4 4"],
    Ks: Float[Array, "C 3 3"],
    width: SupportsIndex,
    height: SupportsIndex,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    backgrounds: Float[Array, "C 3"] | None = None,
    sh_degree: int | None = None,
    capacity: SupportsIndex | None = None,
) -> tuple[Float[Array, "C H W 3"], Float[Array, "C H W 1"], RasterInfo]:
    """Images, alpha (1 - transmittance) and ``RasterInfo`` of Gaussians in every camera.

    means, scales: scene units; opacities: 0 to 1. colors: RGB, or SH coefficients if ``sh_degree``
    is given. A Gaussian with an input that is not finite is not drawn and has gradient 0. eps2d:
    added to the variances in the image, square pixels; 0 leaves thin splats to the determinant
    test. capacity: intersections held per camera, static (``capacity_for``, or the default of
    ``default_capacity``); what exceeds it is counted in ``info.overflow``.

    Differentiable once and in reverse mode (``grad``, ``vjp``) in all arrays; all are taken as
    float32, in which all is computed, also where JAX is told to use float64. Raises ValueError on
    shapes or sizes that do not fit together, TypeError on sizes that are no whole numbers.
    """
    width, height = operator.index(width), operator.index(height)
    capacity = None if capacity is None else operator.index(capacity)
    view = View(width, height, float(near_plane), float(far_plane), float(eps2d), sh_degree)
    arrays = dict(means=means, quats=quats, scales=scales, opacities=opacities, colors=colors)
    cameras = dict(viewmats=viewmats, Ks=Ks)
    arrays, cameras = ({k: jnp.asarray(x) for k, x in d.items()} for d in (arrays, cameras))
    cameras["backgrounds"] = None if backgrounds is None else jnp.asarray(backgrounds)
    check_shapes(arrays | cameras, sh_degree)
    check_view(view)
    arrays, cameras = pytrees.single_precision((arrays, tuple(cameras.values())))
    with jax.enable_x64(False):
        return _images(view, arrays, cameras, capacity)


def _images(view, arrays, cameras, capacity):
    """`rasterize` of float32 arrays that fit together."""
    (viewmats, Ks, backgrounds), sh_degree = cameras, view.sh_degree
    width, height = view.width, view.height
    means = arrays["means"]
    count, cameras = means.shape[0], viewmats.shape[0]
    if capacity is None:
        capacity = default_capacity(count, width, height)
    if capacity < 1:
        raise ValueError(f"capacity: expected at least 1, got {capacity}")
    if count and cameras:
        gaussians = _prepare(**arrays, sh_degree=sh_degree)
        outputs = _render(view, capacity, gaussians, Camera(viewmats, Ks))
    else:
        size, counts = (cameras, height, width), jnp.zeros((cameras, height, width), jnp.int32)
        radii = jnp.zeros((cameras, count), jnp.int32)
        outputs = jnp.zeros((*size, 3)), jnp.ones(size), counts[:, 0, 0], radii, counts
    rgb, transmittance, total, radii, drawn = outputs
    if backgrounds is not None:
        rgb = rgb + transmittance[..., None] * backgrounds[:, None, None]
    overflow = jnp.maximum(total - listed_capacity(view, capacity), 0)
    return rgb, 1 - transmittance[..., None], RasterInfo(overflow, total, radii, drawn)


@partial(jax.jit, static_argnums=0)
def _largest_total(view, arrays, cameras):
    gaussians = _prepare(**arrays, sh_degree=None)

    def one_camera(camera):
        shape, splats = _see(gaussians, camera, view)
        return saturating_cumsum(block_spans(splats, shape, view)[1])[-1]

    return jnp.max(lax.map(one_camera, cameras))


def capacity_for(
    means: Float[AnyArray, "G 3"],
    quats: Float[AnyArray, "G 4"],
    scales: Float[AnyArray, "G 3"],
    opacities: Float[AnyArray, " G"],
    viewmats: Float[AnyArray, "C 4 4"],
    Ks: Float[AnyArray, "C 3 3"],
    width: SupportsIndex,
    height: SupportsIndex,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    margin: float = 1.25,
) -> int:
    """A capacity that these Gaussians and cameras fit, ``margin`` times the most any camera has.

    Call it outside ``jit``: it waits for the result. The count stops at 2^30 - 1.
    """
    width, height = operator.index(width), operator.index(height)
    view = View(width, height, float(near_plane), float(far_plane), float(eps2d), None)
    arrays = dict(means=means, quats=quats, scales=scales, opacities=opacities, colors=means)
    arrays = {name: jnp.asarray(x) for name, x in arrays.items()}
    viewmats, Ks = jnp.asarray(viewmats), jnp.asarray(Ks)
    check_shapes(arrays | dict(viewmats=viewmats, Ks=Ks), None)
    check_view(view)
    arrays, viewmats, Ks = pytrees.single_precision((arrays, viewmats, Ks))
    if not (arrays["means"].shape[0] and viewmats.shape[0]):
        return 1
    with jax.enable_x64(False):
        largest = int(_largest_total(view, arrays, Camera(viewmats, Ks)))
    return max(1, math.ceil(largest * margin))
