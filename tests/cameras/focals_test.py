"""Focal lengths of single photographs: what the program of `cameras.focals` computes in."""

import jax
import jax.numpy as jnp

from mvdust3r_jax.reconstruction import traced


def test_its_numbers_are_those_of_its_points():
    """Where JAX's default is float64, the program of float32 maps still is one."""
    shapes = [(2, 8, 12, 3), (2, 8, 12), (2, 4, 4), (), (2, 2)]
    maps = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    with jax.enable_x64(True):
        found = jax.eval_shape(traced.own_focal_factors, *maps)
    assert found["factor"].dtype == jnp.float32
