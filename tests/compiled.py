"""Functions as one program each, and random arrays by no program: most of what small tests cost.

Outside of jit every operation on every shape is compiled on its own, in about 20 ms.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float


@functools.cache
def compiled(function: Callable) -> Callable:
    """``jit`` over arrays and trees of them; all else that it is called with is constant."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        leaves, structure = jax.tree.flatten((args, kwargs))
        constants = tuple(None if _is_array(leaf) else leaf for leaf in leaves)
        return _run(function, structure, constants, [leaf for leaf in leaves if _is_array(leaf)])

    return call


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _run(function: Callable, structure: Any, constants: tuple, arrays: list) -> Any:
    given = iter(arrays)
    leaves = [next(given) if constant is None else constant for constant in constants]
    args, kwargs = jax.tree.unflatten(structure, leaves)
    return function(*args, **kwargs)


class Compiled:
    """A module whose functions are `compiled`; all else in it is as it is."""

    def __init__(self, module: types.ModuleType):
        self._module = module

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        return compiled(value) if isinstance(value, types.FunctionType) else value


def normal(seed: int, *shape: int) -> Float[Array, "..."]:
    """Standard normal numbers."""
    # `jnp.asarray` of a host array is a program of its own.
    return jax.device_put(np.random.default_rng(seed).standard_normal(shape, np.float32))


def uniform(seed: int, *shape: int, low: float = 0.0, high: float = 1.0) -> Float[Array, "..."]:
    """Numbers in [low, high)."""
    drawn = np.random.default_rng(seed).random(shape, np.float32)
    return jax.device_put(np.float32(low + (high - low) * drawn))
