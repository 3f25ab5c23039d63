"""Frozen dataclasses that JAX sees as trees of arrays, and the precision of a tree's arrays.

What `flax.struct` offers, without importing Flax, which takes a quarter as long as importing JAX:
programs that are kept run without it.
"""

from __future__ import annotations

import dataclasses
from typing import TypeVar, dataclass_transform

import jax
import jax.numpy as jnp

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def dataclass(cls: type[T]) -> type[T]:
    """A frozen dataclass whose fields are all children; ``x.replace(field=...)`` copies."""
    made = dataclasses.dataclass(frozen=True)(cls)
    made.replace = dataclasses.replace
    names = [field.name for field in dataclasses.fields(made)]
    return jax.tree_util.register_dataclass(made, data_fields=names, meta_fields=[])


def single_precision(tree: T) -> T:
    """Floating-point arrays as float32, all others as they are."""
    wanted = jnp.floating
    return jax.tree.map(
        lambda x: x.astype(jnp.float32) if jnp.issubdtype(x.dtype, wanted) else x, tree
    )


def full_precision(tree: T) -> T:
    """Arrays of half precision (float16, bfloat16) as float32, all others as they are."""
    halves = (jnp.float16, jnp.bfloat16)
    return jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype in halves else x, tree)
