"""Functions of batches on this process's devices: spread, compiled once each, and timed."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXIS = "data"


class Timed(NamedTuple):
    """A result, the seconds it took, and those of compiling it (0 where that was done before)."""

    result: Any
    seconds: float
    compile_s: float


def check_count(count: int) -> None:
    """ValueError where this process has fewer devices (0: all of them)."""
    present = len(jax.local_devices())
    if not 0 <= count <= present:
        raise ValueError(f"devices must be 0 (all) to {present}, got {count}")


class Devices:
    """Runs functions of batches with the batch axis spread over this process's devices.

    count: how many, 0 for all. ValueError where there are fewer.
    """

    def __init__(self, count: int = 0):
        check_count(count)
        self.mesh = Mesh(np.array(jax.local_devices()[: count or None]), (AXIS,))
        self._compiled: dict[Any, Any] = {}

    @property
    def size(self) -> int:
        """Number of devices."""
        return self.mesh.size

    def place(self, tree: Any, spread: bool) -> Any:
        """Arrays on the devices: batch axis spread, or a copy on each."""
        return jax.device_put(tree, NamedSharding(self.mesh, P(AXIS) if spread else P()))

    def run(
        self, function: Callable, batches: tuple, constants: tuple = (), **options: Any
    ) -> Timed:
        """``function(*constants, *batches, **options)``; options are static and hashable.

        Each device runs the function on its own samples. Compiled once per function, options and
        shapes.
        """
        arguments = (*constants, *batches)
        leaves, structure = jax.tree.flatten(arguments)
        shapes = tuple((x.shape, x.dtype) for x in leaves)
        key = (function, tuple(sorted(options.items())), structure, shapes)
        start, compile_s = time.perf_counter(), 0.0
        if key not in self._compiled:
            specs = (P(),) * len(constants) + (P(AXIS),) * len(batches)
            mapped = jax.shard_map(
                functools.partial(function, **options),
                mesh=self.mesh,
                in_specs=specs,
                out_specs=P(AXIS),
                check_vma=False,
            )
            self._compiled[key] = jax.jit(mapped).lower(*arguments).compile()
            compile_s = time.perf_counter() - start
            start = time.perf_counter()
        result = jax.block_until_ready(self._compiled[key](*arguments))
        return Timed(result, time.perf_counter() - start, compile_s)
