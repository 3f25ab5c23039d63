"""Shapes of a network's variables by name, without tracing the network a second time.

They are what its initialization would make, traced once; in a process that keeps programs
(`storage.user_cache`) they are kept as well, so that a later one knows them at once.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json

import jax

from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.storage import user_cache

Shapes = dict[str, tuple[int, ...]]
_KIND = "shapes"


@functools.lru_cache(maxsize=32)
def variable_shapes(config: ModelConfig) -> Shapes:
    """``{"params/encoder/...": shape}``, batch statistics included; not to be changed."""
    source = user_cache.source_digest("models", "types.py")
    key = user_cache.key_of(config, source, jax.__version__, importlib.metadata.version("flax"))
    known = _read(user_cache.read(_KIND, key))
    if known is not None:
        return known
    # Only now is Flax imported, which takes a quarter as long as importing JAX.
    from mvdust3r_jax.models.mvdust3r import abstract_variables

    leaves = jax.tree_util.tree_leaves_with_path(abstract_variables(config))
    shapes = {"/".join(str(k.key) for k in path): x.shape for path, x in leaves}
    user_cache.write(_KIND, key, json.dumps(shapes).encode())
    return shapes


def _read(content: bytes | None) -> Shapes | None:
    """Shapes of a kept file; None if that is not what it holds."""
    try:
        shapes = json.loads(content) if content else None
        return {str(name): tuple(map(int, shape)) for name, shape in shapes.items()}
    except (ValueError, TypeError, AttributeError):
        return None
