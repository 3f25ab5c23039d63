"""Parity with gsplat 1.4's formulas, evaluated in float64, on fourteen scenes."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvdust3r_jax.splat import rasterize

SCENES = sorted((pathlib.Path(__file__).parents[1] / "golden" / "raster").glob("*.npz"))
# Run by `as_users_test` alone, with more effort.
AS_USERS = ("s3_sh2", "s4_hard_dense_tile")
INPUTS = ("means", "quats", "scales", "opacities", "colors")
# Above this radius (pixels) float32 may round to a neighboring integer.
LARGE_RADIUS = 500


def _hat(xi):
    """Generator of a rigid motion from (translation, rotation)."""
    x, y, z, a, b, c = xi
    zero = jnp.zeros_like(x)
    rows = [[zero, -c, b, x], [c, zero, -a, y], [-b, a, zero, z], [zero] * 4]
    return jnp.stack([jnp.stack(row) for row in rows])


def _loss(inputs, xi, scene):
    viewmats = jnp.asarray(scene["viewmats"])
    viewmats = viewmats + jax.vmap(_hat)(xi) @ viewmats
    degree = int(scene["sh_degree"])
    image, alpha, info = rasterize(
        *[inputs[name] for name in INPUTS],
        viewmats,
        jnp.asarray(scene["Ks"]),
        int(scene["width"]),
        int(scene["height"]),
        near_plane=float(scene["near_plane"]),
        far_plane=float(scene["far_plane"]),
        eps2d=float(scene["eps2d"]),
        backgrounds=jnp.asarray(scene["background"]),
        sh_degree=None if degree < 0 else degree,
    )
    loss = jnp.sum(image * scene["W_img"]) + jnp.sum(alpha * scene["W_alpha"])
    return loss, (image, alpha, info)


def run_scene(path):
    """The golden scene, and our (image, alpha, info) and gradients."""
    scene = dict(np.load(path))
    if "sh" in scene:
        scene["colors"], scene["grad_colors"] = scene["sh"], scene["grad_sh"]
    inputs = {name: jnp.asarray(scene[name]) for name in INPUTS}
    xi = jnp.zeros((len(scene["viewmats"]), 6))
    both = jax.value_and_grad(lambda a, b: _loss(a, b, scene), argnums=(0, 1), has_aux=True)
    (_, drawn), (gradients, by_xi) = jax.jit(both)(inputs, xi)
    return scene, drawn, gradients | {"viewmats_se3": by_xi}


def scene_of(name):
    """Path of a scene."""
    (path,) = [path for path in SCENES if path.stem == name]
    return path


@pytest.mark.parametrize("name", [p.stem for p in SCENES if p.stem not in AS_USERS])
def test_golden_scene(name):
    """Images within 1e-4, gradients within 1e-3 of their largest entry, radii and counts equal."""
    scene, (image, alpha, info), gradients = run_scene(scene_of(name))
    assert int(info.overflow.sum()) == 0
    # Ten times what a plain float32 evaluation of the same formulas reaches on these scenes.
    np.testing.assert_allclose(image, scene["image"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(alpha, scene["alpha"], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(info.contributors, scene["n_contrib"])
    small = scene["radii"] < LARGE_RADIUS
    np.testing.assert_array_equal(np.asarray(info.radii)[small], scene["radii"][small])
    for name, gradient in gradients.items():
        expected = scene[f"grad_{name}"]
        largest = np.abs(expected).max()
        np.testing.assert_allclose(
            gradient, expected, rtol=0, atol=1e-3 * largest + 1e-12, err_msg=name
        )
