"""Fully sharded data parallelism: ``jit`` over a mesh, every large array of the state cut over it.

Parameters, moments and average lie in parts on all chips. Parameters are gathered once a step, or
those of layers each where it runs, and gradients of each micro-batch are cut as soon as they are
summed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.training.parallel import AXIS, Spread, check_batch
from mvdust3r_jax.types import Batch

VIEW_AXIS, SLICE_AXIS = "view", "slice"
# Arrays with fewer entries stay whole on every chip: gathering them would cost more than it saves.
MIN_SHARDED_SIZE = 2**14


def make_mesh(
    shape: tuple[int, int], devices: Sequence[jax.Device] | None = None, slices: int = 1
) -> Mesh:
    """Mesh of (batch shards, view shards); state is sharded over both axes together.

    With several slices their axis comes first, and the state is sharded inside each of them: the
    network between slices is slower than that inside, and carries a step's gradients alone.

    Raises:
      ValueError: another number of devices, or slices that do not cut the batch shards.
    """
    devices = list(devices or jax.devices())
    devices.sort(key=_slice_of)
    batch, views = shape
    if batch * views != len(devices):
        raise ValueError(f"a mesh of {shape} needs {batch * views} devices, got {len(devices)}")
    if slices == 1:
        auto = (AxisType.Auto, AxisType.Auto)
        return Mesh(np.array(devices).reshape(shape), (AXIS, VIEW_AXIS), axis_types=auto)
    found = len(set(map(_slice_of, devices)))
    if batch % slices or found not in (1, slices):
        raise ValueError(
            f"{batch} batch shards cannot lie in {slices} slices; the devices are in {found}"
        )
    inside = np.array(devices).reshape(slices, batch // slices, views)
    return Mesh(inside, (SLICE_AXIS, AXIS, VIEW_AXIS), axis_types=(AxisType.Auto,) * 3)


def _slice_of(device: Any) -> int:
    """Number of the slice that a TPU chip is in; other devices are all in one."""
    return getattr(device, "slice_index", None) or 0


def state_parts(mesh: Mesh) -> int:
    """Over how many chips an array of the state is cut: those of one slice."""
    return mesh.shape[AXIS] * mesh.shape[VIEW_AXIS]


def cut_axis(shape: tuple[int, ...], parts: int) -> int | None:
    """Which axis of an array is cut: the largest divisible one, not the layer axis of a scan."""
    if int(np.prod(shape)) < MIN_SHARDED_SIZE:
        return None
    first = 1 if len(shape) == 3 else 0
    candidates = [a for a in range(first, len(shape)) if shape[a] % parts == 0]
    return max(candidates, key=lambda a: shape[a], default=None)


def _spec(shape: tuple[int, ...], parts: int, names: Any) -> PartitionSpec:
    axis = cut_axis(shape, parts)
    return PartitionSpec() if axis is None else PartitionSpec(*(None,) * axis, names)


def state_spec(shape: tuple[int, ...], parts: int) -> PartitionSpec:
    """How an array of the state lies on the mesh: its ``cut_axis`` over all chips."""
    return _spec(shape, parts, (AXIS, VIEW_AXIS))


def state_shardings(state: Any, mesh: Mesh) -> Any:
    """Shardings of a tree of arrays or shapes, by shape alone: moments follow their parameters."""
    parts = state_parts(mesh)
    return jax.tree.map(lambda x: NamedSharding(mesh, state_spec(x.shape, parts)), state)


class FullySharded(Spread):
    """``jit`` over a mesh of (batch shards, view shards), or of (slices, both of each).

    by_layer: parameters of layers are gathered one layer at a time, in the forward and again in the
    backward pass; else all together, once a step.
    """

    def __init__(self, mesh: Mesh, by_layer: bool = False):
        self.mesh, self._parts, self._by_layer = mesh, state_parts(mesh), by_layer
        sliced = SLICE_AXIS in mesh.shape
        self.axis_name = (SLICE_AXIS, AXIS) if sliced else AXIS
        self._batch_axes = (SLICE_AXIS, AXIS) if sliced else (AXIS,)
        self._samples = PartitionSpec(self._batch_axes)
        self._by_sample = NamedSharding(mesh, self._samples)
        self._whole = NamedSharding(mesh, PartitionSpec())

    def network(self, config: ModelConfig) -> ModelConfig:
        """See `OneChip`.

        Raises:
          ValueError: layers are gathered one at a time, and all would be kept.
        """
        if not self._by_layer:
            return super().network(config)
        if not config.remat:
            raise ValueError(
                "gather='layer' needs remat: without, what is gathered of each layer would be kept "
                "for the backward pass, all layers together"
            )
        return dataclasses.replace(config, bn_axis_name=self.axis_name, gather_axis=AXIS)

    def share(self) -> tuple[int, int]:
        """See `OneChip`. Processes between which a sample's views are cut load the same samples.

        Raises:
          ValueError: this process's devices hold no equal share of the batch axis.
        """
        mine = jax.process_index()
        devices = self.mesh.devices.reshape(-1, self.mesh.shape[VIEW_AXIS])
        rows = [any(d.process_index == mine for d in row) for row in devices]
        own, first, shards = sum(rows), rows.index(True), len(rows)
        if shards % own or first % own:
            raise ValueError(
                f"process {mine} has rows {first}..{first + own - 1} of the mesh's {shards} batch "
                "shards, which is no share of equal size; choose another config.mesh"
            )
        return first // own, shards // own

    def place_views(self, images: Array) -> Array:
        """Spreads the views over the view axis.

        They stay together where their number is no multiple of it.
        """
        even = images.shape[1] % self.mesh.shape[VIEW_AXIS] == 0
        spec = PartitionSpec(None, VIEW_AXIS if even else None)
        return jax.lax.with_sharding_constraint(images, spec)

    def join_views(self, tree: Any) -> Any:
        """What was spread over the view axis, whole on each of its chips."""
        whole = PartitionSpec()
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, whole), tree)

    def sum_gradients(self, grads: Any, like: Any) -> Any:
        """Sums over all samples, of which each chip receives the part that it stores.

        Of several slices these parts alone are summed between them. What was gathered in a layer
        arrives as such a part, summed over the chips of its slice.
        """

        def one(x: Array, like: Any) -> Array:
            axis = cut_axis(like.shape, self._parts)
            if axis is None:
                return jax.lax.psum(x, self._batch_axes)
            if x.shape == like.shape:
                x = jax.lax.psum_scatter(x, AXIS, scatter_dimension=axis, tiled=True)
            return jax.lax.psum(x, SLICE_AXIS) if SLICE_AXIS in self.mesh.shape else x

        return jax.tree.map(one, grads, like)

    def on_chips(self, function: Callable, like: Any = None) -> Callable:
        """See `OneChip`. Parameters and statistics that layers do not gather are gathered first.

        Compiled for the whole batch instead, every loop over samples (of attention, of the
        rasterizer) would be one over all chips' samples, and every chip would compute everything.
        """
        whole = PartitionSpec()
        parts = jax.tree.map(lambda x: _spec(x.shape, self._parts, AXIS), like)
        given = whole
        if like is not None and self._by_layer:
            given = jax.tree.map(lambda x, spec: spec if x.ndim == 3 else whole, like, parts), whole
        # The view axis is left to the compiler, guided by `place_views`.
        return jax.shard_map(
            function,
            mesh=self.mesh,
            in_specs=(given, self._samples, whole),
            out_specs=({} if like is None else parts, whole),
            axis_names=set(self._batch_axes),
            check_vma=False,
        )

    def program(self, step: Callable, state: Any) -> Callable:
        """See `Spread`."""
        shardings = state_shardings(state, self.mesh)
        return jax.jit(
            step,
            donate_argnums=0,
            in_shardings=(shardings, self._by_sample),
            out_shardings=(shardings, self._whole),
        )

    def compile(self, step: Callable, state: Any) -> Callable:
        """See `Spread`."""
        return self.program(step, state)

    def readout(self, function: Callable, state: Any) -> Callable[[Any, Any], Any]:
        """See `Spread`."""
        return self.readout_program(function, state)

    def readout_program(self, function: Callable, state: Any) -> Callable:
        """See `Spread`."""
        shardings = state_shardings(state, self.mesh)
        return jax.jit(
            function, in_shardings=(shardings, self._by_sample), out_shardings=self._whole
        )

    def put_state(self, state: Any) -> Any:
        """A state to its places: a whole one in parts, a restored one as it lies."""

        def put(x: Any, sharding: NamedSharding) -> Array:
            # What was restored lies where it belongs, and other processes' parts cannot be fetched.
            if isinstance(x, jax.Array) and x.sharding.is_equivalent_to(sharding, x.ndim):
                return x
            x = np.asarray(x)
            return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

        return jax.tree.map(put, state, state_shardings(state, self.mesh))

    def put_batch(self, batch: Batch) -> Batch:
        """See `Spread`."""
        shards = self.mesh.size // self.mesh.shape[VIEW_AXIS]
        check_batch(batch, shards // self.share()[1])
        place = jax.make_array_from_process_local_data
        return jax.tree.map(lambda x: place(self._by_sample, np.asarray(x)), batch)

    def host_view(self, state: Any) -> Any:
        """A copy as it is saved: the step gives its input's buffers away."""
        return jax.jit(_copies, out_shardings=state_shardings(state, self.mesh))(state)

    def abstract(self, state: Any) -> Any:
        """See `Spread`."""
        shardings = state_shardings(state, self.mesh)
        return jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings
        )


def _copies(tree: Any) -> Any:
    """To be compiled as a whole: outside of jit every array would need a program."""
    return jax.tree.map(jnp.copy, tree)
