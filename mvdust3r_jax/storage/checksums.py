"""Whether arrays come back from a disk as they were written: one number an array.

A checkpoint's own format notices most damage, since its blocks are compressed; but noise, as
weights are to a compressor, is stored as it is, and a block that is missing reads as zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

# Modulus of the sums is 2^32: what an unsigned integer of this size does by itself.
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32}


def checksums(tree: Any) -> dict[str, int]:
    """Path of each array of a tree -> the sum of its entries' bits, modulo 2^32.

    An entry's bits are read as an unsigned integer, so any one damaged entry shows, and so does a
    part that reads as zeros. A sum needs no order: arrays that are cut over chips are added where
    they lie (all processes call together), and have the same sum as whole ones in NumPy.
    """
    leaves = {jax.tree_util.keystr(path): x for path, x in jax.tree.leaves_with_path(tree)}
    on_chips = {path: x for path, x in leaves.items() if isinstance(x, jax.Array)}
    on_host = {path: _on_host(x) for path, x in leaves.items() if path not in on_chips}
    sums = on_host | jax.device_get(_on_chips(on_chips))
    return {path: int(sums[path]) for path in leaves}


def _on_host(x: Any) -> int:
    x = np.ascontiguousarray(x)
    # Entries of eight bytes count as two.
    bits = x.reshape(-1).view(_UNSIGNED[min(x.dtype.itemsize, 4)])
    return int(bits.sum(dtype=np.uint32))


@jax.jit
def _on_chips(arrays: dict[str, Array]) -> dict[str, UInt32[Array, ""]]:
    def one(x: Array) -> UInt32[Array, ""]:
        if x.dtype == jnp.bool_:
            x = x.astype(jnp.uint8)
        unsigned = _UNSIGNED[min(x.dtype.itemsize, 4)]
        return jax.lax.bitcast_convert_type(x, unsigned).sum(dtype=jnp.uint32)

    return jax.tree.map(one, arrays)


def differing(kept: Mapping[str, int], found: Mapping[str, int]) -> str:
    """What to say of arrays that are not as they were written; '' where all are.

    kept: sums of the time of writing; arrays that it lacks are not judged.
    """
    wrong = [path for path, value in found.items() if kept.get(path, value) != value]
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return f"{', '.join(wrong[:3])}{more}: not what was written there" if wrong else ""
