"""Camera pose from 2D-3D correspondences: minimal solver, robust scoring, refinement. One camera.

Every function here treats **one** camera and is meant for ``vmap``; `from_pointmaps` is the batched
front. A pose is ``cam_from_ref`` as ``(rotation [3, 3], translation [3])``. ``pixels`` are measured
from the principal point, in pixels; ``rays`` are pixels divided by the focal length. Points are
scaled to unit spread.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mvdust3r_jax.geometry.transforms import normalize, rotation_from_axis_angle
from mvdust3r_jax.products import exact_products

# Depths below this (points are scaled to unit spread) count as lying behind the camera.
MIN_DEPTH = 1e-3
# Depth corrections by Newton's method after the closed form: float32 loses digits in the cubic.
_DEPTH_STEPS = 4
# Squared errors are cut at this multiple of the squared width: a camera so far away that all points
# fall on one pixel must not win by having no large errors.
_MAX_RATIO = 16.0
# Relative damping at the start of Levenberg-Marquardt, and its factors after a good and a bad step.
_DAMPING, _DAMPING_DOWN, _DAMPING_UP = 1e-3, 0.3, 8.0


def real_cubic_root(b: Array, c: Array, d: Array) -> Array:
    """One real root of ``x^3 + b x^2 + c x + d`` (the largest where all three are real)."""
    p = c - b * b / 3
    q = b * (2 * b * b - 9 * c) / 27 + d
    disc = q * q / 4 + p * p * p / 27
    root = jnp.sqrt(jnp.maximum(disc, 0.0))
    # The sign avoids cancellation between q/2 and the root.
    u = jnp.cbrt(-q / 2 - jnp.where(q >= 0, root, -root))
    single = u - p / (3 * jnp.where(u == 0, 1.0, u))
    radius = 2 * jnp.sqrt(jnp.maximum(-p / 3, 0.0))
    cosine = 3 * q / jnp.where(p * radius == 0, 1.0, p * radius)
    triple = radius * jnp.cos(jnp.arccos(jnp.clip(cosine, -1.0, 1.0)) / 3)
    x = jnp.where(disc > 0, single, triple) - b / 3
    for _ in range(2):
        slope = (3 * x + 2 * b) * x + c
        x = x - (((x + b) * x + c) * x + d) / jnp.where(slope == 0, 1.0, slope)
    return x


def _adjugate_rows(rows: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """Cross products of each two following rows: ``inverse(m) = adjugate_rows(m).T / det(m)``."""
    return jnp.cross(jnp.roll(rows, -1, axis=0), jnp.roll(rows, -2, axis=0))


def _line_pair(conic: Float[Array, "3 3"]) -> Float[Array, "2 3"]:
    """The two lines of a degenerate symmetric conic with eigenvalues of both signs and one zero."""
    trace = jnp.trace(conic)
    minors = 0.5 * (trace**2 - jnp.sum(conic * conic))
    root = jnp.sqrt(jnp.maximum(trace**2 - 4 * minors, 0.0))
    large = 0.5 * (trace + jnp.where(trace >= 0, root, -root))
    small = minors / large

    def eigenvector(value):
        normals = _adjugate_rows(conic - value * jnp.eye(3, dtype=conic.dtype))
        return normalize(normals[jnp.argmax(jnp.sum(normals**2, axis=-1))])

    # large (e.x)^2 + small (g.x)^2 = 0 splits where the eigenvalues differ in sign, else NaN.
    ratio = jnp.sqrt(-small / large)
    first, second = jax.vmap(eigenvector)(jnp.stack([large, small]))
    return jnp.stack([first - ratio * second, first + ratio * second])


def _refine_depths(
    depths: Float[Array, "3"], cosines: Float[Array, "3"], squares: Float[Array, "3"]
) -> Float[Array, "3"]:
    """Newton's method on the three laws of cosines; sides are ordered (1,2), (1,3), (2,3)."""
    c12, c13, c23 = cosines

    def step(depths, _):
        x, y, z = depths
        values = jnp.stack(
            [x * x + y * y - 2 * x * y * c12, x * x + z * z - 2 * x * z * c13]
            + [y * y + z * z - 2 * y * z * c23]
        )
        rows = jnp.stack(
            [
                jnp.stack([x - y * c12, y - x * c12, 0 * x]),
                jnp.stack([x - z * c13, 0 * x, z - x * c13]),
                jnp.stack([0 * x, y - z * c23, z - y * c23]),
            ]
        )
        adjugate = _adjugate_rows(rows)
        det = jnp.dot(rows[0], adjugate[0])
        return depths - 0.5 * (values - squares) @ adjugate / det, None

    return jax.lax.scan(step, depths, None, length=_DEPTH_STEPS)[0]


def _frame(points: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """Orthonormal columns spanned by a triangle: first side, normal, and their product."""
    side = normalize(points[1] - points[0])
    normal = normalize(jnp.cross(points[1] - points[0], points[2] - points[0]))
    return jnp.stack([side, normal, jnp.cross(side, normal)], axis=-1)


@exact_products
def p3p(
    rays: Float[Array, "3 2"], points: Float[Array, "3 3"]
) -> tuple[Float[Array, "4 3 3"], Float[Array, "4 3"]]:
    """The up to four poses ``cam_from_ref`` that see three points along three rays; NaN elsewhere.

    After Persson and Nordberg, "Lambda Twist" (ECCV 2018): the three laws of cosines are two
    quadrics in the depth ratios; a degenerate member of their pencil (a cubic) splits into planes.
    """
    bearings = normalize(jnp.concatenate([rays, jnp.ones_like(rays[:, :1])], axis=-1))
    first, second = jnp.array([0, 0, 1]), jnp.array([1, 2, 2])
    squares = jnp.sum((points[first] - points[second]) ** 2, axis=-1)
    cosines = jnp.sum(bearings[first] * bearings[second], axis=-1)

    eye = jnp.eye(3, dtype=points.dtype)
    outer = eye[first][:, :, None] * eye[second][:, None, :]
    diagonal = eye[first] + eye[second]
    sides = diagonal[:, :, None] * eye[None] - cosines[:, None, None] * (
        outer + outer.swapaxes(1, 2)
    )
    one = sides[0] * squares[2] - sides[2] * squares[0]
    two = sides[1] * squares[2] - sides[2] * squares[1]

    # det(one + x two), expanded by columns.
    cross_one, cross_two = _adjugate_rows(one.T), _adjugate_rows(two.T)
    cubic = jnp.dot(two[:, 0], cross_two[0])
    root = real_cubic_root(
        jnp.sum(one.T * cross_two) / cubic,
        jnp.sum(two.T * cross_one) / cubic,
        jnp.dot(one[:, 0], cross_one[0]) / cubic,
    )
    planes = _line_pair(one + root * two)

    def depths_on(plane):
        base = jnp.stack([-plane[1] / plane[0], 1.0, 0.0])
        slope = jnp.stack([-plane[2] / plane[0], 0.0, 1.0])
        a, half_b, c = slope @ two @ slope, base @ two @ slope, base @ two @ base
        root = jnp.sqrt(half_b * half_b - a * c)
        stable = -half_b - jnp.where(half_b >= 0, root, -root)
        ratios = jnp.stack([stable / a, c / stable])
        middle = jnp.sqrt(squares[2] / (1 + ratios**2 - 2 * ratios * cosines[2]))
        return middle[:, None] * (base[None] + ratios[:, None] * slope[None])

    depths = jax.vmap(depths_on)(planes).reshape(4, 3)
    depths = jax.vmap(lambda d: _refine_depths(d, cosines, squares))(depths)
    depths = jnp.where(jnp.all(depths > 0, axis=-1, keepdims=True), depths, jnp.nan)
    seen = depths[..., None] * bearings[None]
    rotation = jax.vmap(_frame)(seen) @ _frame(points).T
    translation = jnp.mean(seen, axis=1) - jnp.einsum("kij,j->ki", rotation, points.mean(axis=0))
    return rotation, translation


def _seen(
    rotation: Float[Array, "3 3"], translation: Float[Array, "3"], points: Float[Array, "n 3"]
) -> Iterator[Array]:
    """Camera coordinates x, y, z [n] of points; by components, so that sums fuse."""
    return (
        rotation[i, 0] * points[:, 0]
        + rotation[i, 1] * points[:, 1]
        + rotation[i, 2] * points[:, 2]
        + translation[i]
        for i in range(3)
    )


def squared_errors(
    rotation: Float[Array, "3 3"],
    translation: Float[Array, "3"],
    points: Float[Array, "n 3"],
    pixels: Float[Array, "n 2"],
    focal_px: Float[Array, ""],
) -> Float[Array, " n"]:
    """Squared reprojection errors in pixels; infinite behind the camera and for undefined poses."""
    x, y, z = _seen(rotation, translation, points)
    scale = focal_px / jnp.maximum(z, MIN_DEPTH)
    error = (x * scale - pixels[:, 0]) ** 2 + (y * scale - pixels[:, 1]) ** 2
    return jnp.where((z > MIN_DEPTH) & jnp.isfinite(error), error, jnp.inf)


def squared_distances(
    rotation: Float[Array, "3 3"],
    translation: Float[Array, "3"],
    points: Float[Array, "n 3"],
    rays: Float[Array, "n 2"],
) -> Float[Array, " n"]:
    """Squared distances of points from their pixels' rays, at the points' depth; infinite behind.

    In a pointmap the pixels are exact and the points are not. These distances are linear in the
    points, so that noise does not bias the pose; a reprojection divides by a noisy depth.
    """
    x, y, z = _seen(rotation, translation, points)
    distance = (x - rays[:, 0] * z) ** 2 + (y - rays[:, 1] * z) ** 2
    return jnp.where((z > MIN_DEPTH) & jnp.isfinite(distance), distance, jnp.inf)


def log_score(errors: Float[Array, " n"], width_px: float) -> Float[Array, ""]:
    """Mean of ``log(1 + error / width^2)``: lower is better, at any level of noise.

    Outliers add a bounded amount, as with a truncated loss; unlike that one it still tells good
    hypotheses from bad ones where nearly all errors exceed the width.
    """
    return jnp.mean(jnp.log1p(jnp.minimum(errors / width_px**2, _MAX_RATIO)))


def _normal_equations(
    rotation: Float[Array, "3 3"],
    translation: Float[Array, "3"],
    points: Float[Array, "n 3"],
    rays: Float[Array, "n 2"],
    weights: Float[Array, " n"],
) -> tuple[Float[Array, "6 6"], Float[Array, "6"]]:
    """``J^T W J`` and ``J^T W r`` of ray distances, for a left perturbation (axis-angle, shift)."""
    x, y, z = _seen(rotation, translation, points)
    u, v = rays[:, 0], rays[:, 1]
    one, zero = jnp.ones_like(z), jnp.zeros_like(z)
    row_x = jnp.stack([-u * y, z + u * x, -y, one, zero, -u])
    row_y = jnp.stack([-z - v * y, v * x, x, zero, one, -v])
    weighted_x, weighted_y = row_x * weights[None], row_y * weights[None]
    matrix = weighted_x @ row_x.T + weighted_y @ row_y.T
    return matrix, weighted_x @ (x - u * z) + weighted_y @ (y - v * z)


def _robust_cost(
    distances: Float[Array, " n"], weights: Float[Array, " n"], width: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, " n"]]:
    """Geman and McClure's loss and the weights of its reweighted least squares."""
    ratio = distances / width**2
    inside = jnp.isfinite(ratio)
    ratio = jnp.where(inside, ratio, 0.0)
    loss = jnp.where(inside, ratio / (1 + ratio), 1.0)
    reweighted = jnp.where(inside, weights / (1 + ratio) ** 2, 0.0)
    return jnp.sum(weights * loss), reweighted


def solve_positive(matrix: Float[Array, "n n"], vector: Float[Array, " n"]) -> Float[Array, " n"]:
    """Solves a positive definite system by elimination without pivoting, in one small loop.

    Under ``vmap`` LAPACK's solver compiles to thirty kernels around its calls; this is two.
    """
    size = len(vector)
    rows = jnp.concatenate([matrix, vector[:, None]], axis=1)

    def eliminate(k, rows):
        pivot = rows[k] / rows[k, k]
        others = jnp.arange(size) != k
        return jnp.where(others[:, None], rows - rows[:, k, None] * pivot[None], pivot[None])

    return jax.lax.fori_loop(0, size, eliminate, rows)[:, size]


@exact_products
def refine(
    rotation: Float[Array, "3 3"],
    translation: Float[Array, "3"],
    points: Float[Array, "n 3"],
    rays: Float[Array, "n 2"],
    weights: Float[Array, " n"],
    width: Float[Array, ""],
    steps: int,
) -> tuple[Float[Array, "3 3"], Float[Array, "3"]]:
    """Levenberg-Marquardt on distances from rays, with Geman-McClure weights of the given width.

    A step that does not lower the loss is undone, so the result is never worse than the start.
    """

    def evaluate(rotation, translation):
        return _robust_cost(squared_distances(rotation, translation, points, rays), weights, width)

    def step(state, _):
        rotation, translation, damping, cost, reweighted = state
        matrix, gradient = _normal_equations(rotation, translation, points, rays, reweighted)
        damped = matrix + jnp.diag(damping * jnp.diag(matrix) + 1e-12)
        delta = -solve_positive(damped, gradient)
        turn = rotation_from_axis_angle(delta[:3])
        new_rotation, new_translation = turn @ rotation, turn @ translation + delta[3:]
        new_cost, new_weights = evaluate(new_rotation, new_translation)
        better = new_cost < cost
        kept = jax.tree.map(
            lambda new, old: jnp.where(better, new, old),
            (new_rotation, new_translation, damping * _DAMPING_DOWN, new_cost, new_weights),
            (rotation, translation, damping * _DAMPING_UP, cost, reweighted),
        )
        return kept, None

    damping = jnp.asarray(_DAMPING, points.dtype)
    start = (rotation, translation, damping, *evaluate(rotation, translation))
    (rotation, translation, *_), _ = jax.lax.scan(step, start, None, length=steps)
    return rotation, translation
