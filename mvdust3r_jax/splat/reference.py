"""The rasterizer by brute force: every Gaussian at every pixel, one after another. A test oracle.

Written for reading, from gsplat 1.4's semantics: matrices instead of components, a dense loop
instead of lists, derivatives by automatic differentiation. Memory and time grow with Gaussians
times pixels. Inputs must be finite; conventions are those of ``rasterize``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from mvdust3r_jax.geometry.transforms import rotation_from_quat
from mvdust3r_jax.splat.gaussians import sh_basis

_TILE = 16


def _project(means, quats, scales, viewmat, K, width, height, eps2d):
    """(mean2d [G, 2], covariance [G, 2, 2], depth [G]) by the chain of Jacobians."""
    point = means @ viewmat[:3, :3].T + viewmat[:3, 3][None]
    x, y, z = point.T
    # A stand-in for what lies on the camera plane; the caller culls it.
    z = jnp.where(jnp.abs(z) < 1e-6, 1.0, z)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    margin = 0.15 * jnp.array([width, height]) / jnp.array([fx, fy])
    low = -jnp.array([cx / fx, cy / fy]) - margin
    high = jnp.array([(width - cx) / fx, (height - cy) / fy]) + margin
    tx = z * jnp.clip(x / z, low[0], high[0])
    ty = z * jnp.clip(y / z, low[1], high[1])
    zero = jnp.zeros_like(z)
    jacobian = jnp.stack(
        [
            jnp.stack([fx / z, zero, -fx * tx / z**2], axis=-1),
            jnp.stack([zero, fy / z, -fy * ty / z**2], axis=-1),
        ],
        axis=-2,
    )
    factor = jacobian @ viewmat[None, :3, :3] @ (rotation_from_quat(quats) * scales[:, None, :])
    covariance = factor @ factor.transpose(0, 2, 1) + eps2d * jnp.eye(2)[None]
    return jnp.stack([fx * x / z + cx, fy * y / z + cy], axis=-1), covariance, point[:, 2]


def _radius(mean, covariance, depth, width, height, near_plane, far_plane):
    """Three standard deviations in pixels, rounded up; 0 where culled."""
    half_trace = 0.5 * (covariance[:, 0, 0] + covariance[:, 1, 1])
    det = covariance[:, 0, 0] * covariance[:, 1, 1] - covariance[:, 0, 1] ** 2
    eigenvalue = half_trace + jnp.sqrt(jnp.maximum(half_trace**2 - det, 0.1))
    radius = jnp.ceil(3 * jnp.sqrt(eigenvalue))
    size = jnp.array([width, height])[None]
    touches = jnp.all((mean + radius[:, None] > 0) & (mean - radius[:, None] < size), axis=-1)
    visible = touches & (det > 0) & (depth >= near_plane) & (depth <= far_plane)
    return jnp.where(visible, radius, 0.0)


def _colors(colors, means, viewmat, sh_degree):
    if sh_degree is None:
        return colors
    offset = means - jnp.linalg.inv(viewmat)[:3, 3][None]
    direction = offset / jnp.linalg.norm(offset, axis=-1, keepdims=True)
    basis = [jnp.broadcast_to(b, means.shape[:1]) for b in sh_basis(tuple(direction.T), sh_degree)]
    return jnp.maximum(jnp.einsum("kg,gkc->gc", jnp.stack(basis), colors[:, : len(basis)]) + 0.5, 0)


def _draw(state, splat, pixels):
    """One splat on all pixels [H, W, 2]: state is (transmittance, stopped, image, contributors)."""
    light, stopped, image, count = state
    mean, conic, color, opacity, radius = splat
    first, end = jnp.floor((mean - radius) / _TILE), jnp.ceil((mean + radius) / _TILE)
    tile = jnp.floor(pixels / _TILE)
    seen = jnp.all((tile >= first[None, None]) & (tile < end[None, None]), axis=-1) & (radius > 0)
    d = pixels - mean[None, None]
    sigma = 0.5 * jnp.einsum("hwi,ij,hwj->hw", d, conic, d)
    raw = opacity * jnp.exp(-sigma)
    alpha = jnp.where(raw > 0.999, 0.999, raw)
    seen = seen & (sigma >= 0) & (alpha >= 1 / 255)
    after = light * (1 - alpha)
    stopped = stopped | (seen & (after <= 1e-4))
    drawn = seen & ~stopped
    image = image + jnp.where(drawn, alpha * light, 0.0)[..., None] * color[None, None]
    return (jnp.where(drawn, after, light), stopped, image, count + drawn), None


def rasterize_reference(
    means: Float[Array, "G 3"],
    quats: Float[Array, "G 4"],
    scales: Float[Array, "G 3"],
    opacities: Float[Array, " G"],
    colors: Float[Array, "G *coefficients 3"],
    viewmats: Float[Array, "C 4 4"],
    Ks: Float[Array, "C 3 3"],
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    eps2d: float = 0.3,
    backgrounds: Float[Array, "C 3"] | None = None,
    sh_degree: int | None = None,
) -> tuple[Float[Array, "C H W 3"], Float[Array, "C H W 1"], Int[Array, "C H W"]]:
    """Images, alpha and the number of contributing splats of every pixel."""
    v, u = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")
    pixels = jnp.stack([u, v], axis=-1)

    def one_camera(camera):
        viewmat, K = camera
        mean, covariance, depth = _project(means, quats, scales, viewmat, K, width, height, eps2d)
        radius = _radius(mean, covariance, depth, width, height, near_plane, far_plane)
        visible = radius > 0
        safe = jnp.where(visible[:, None, None], covariance, jnp.eye(2)[None])
        a, b, c = safe[:, 0, 0], safe[:, 0, 1], safe[:, 1, 1]
        adjugate = jnp.stack([jnp.stack([c, -b], -1), jnp.stack([-b, a], -1)], -2)
        conic = adjugate / (a * c - b * b)[:, None, None]
        rgb = _colors(colors, means, viewmat, sh_degree)
        order = jnp.argsort(jnp.where(visible, depth, jnp.inf))
        splats = [array[order] for array in (mean, conic, rgb, opacities, radius)]
        shape = (height, width)
        start = (
            jnp.ones(shape),
            jnp.zeros(shape, bool),
            jnp.zeros((*shape, 3)),
            jnp.zeros(shape, jnp.int32),
        )
        draw = jax.checkpoint(lambda state, splat: _draw(state, splat, pixels))
        (light, _, image, count), _ = lax.scan(draw, start, tuple(splats))
        return image, light, count

    image, light, count = lax.map(one_camera, (viewmats, Ks))
    if backgrounds is not None:
        image = image + light[..., None] * backgrounds[:, None, None]
    return image, 1 - light[..., None], count
