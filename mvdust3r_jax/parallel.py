"""Two ways to spread one step over chips: ``pmap`` data parallelism, and a mesh with sharded state.

Both give an object with the same functions, so the training loop does not know which it has.
Batches enter as this process's own samples (NumPy, batch axis first). ``pmap`` keeps a whole copy
of the state on every chip; the mesh (fully sharded data parallelism) cuts every large array of
parameters, moments and average over all chips and gathers a layer when it is used.
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

from mvdust3r_jax.types import Batch

AXIS = "data"
VIEW_AXIS = "view"
# Arrays with fewer entries stay whole on every chip: gathering them would cost more than it saves.
MIN_SHARDED_SIZE = 2**14


@dataclasses.dataclass(frozen=True)
class Parallel:
    """How the loop talks to the chips.

    step(state, batch) -> (state, metrics). readout(function) compiles ``function(state, batch)`` to
    run on the chips and return what is whole on each of them (with ``pmap``: the first chip's).
    put_state(host or single-device state) -> state. put_batch(this process's Batch) -> batch.
    host_view(state) -> a copy without a device axis, as it is saved (whole or sharded arrays).
    abstract(state) -> shapes with the shardings to restore to.
    """

    step: Callable[[Any, Any], tuple[Any, dict[str, Array]]]
    readout: Callable[[Callable], Callable[[Any, Any], Any]]
    put_state: Callable[[Any], Any]
    put_batch: Callable[[Batch], Any]
    host_view: Callable[[Any], Any]
    abstract: Callable[[Any], Any]


def check_batch(batch: Batch, devices: int) -> None:
    """A batch that the devices of this process cannot share out evenly is an error."""
    size = batch.images.shape[0]
    if size % devices:
        raise ValueError(
            f"this process's batch of {size} cannot be shared by its {devices} devices; "
            "choose a batch size that is a multiple of the number of devices"
        )


def data_parallel(step: Callable, devices: Sequence[jax.Device] | None = None) -> Parallel:
    """``pmap`` over all devices; ``step`` must have been made with ``axis_name=AXIS``."""
    devices = list(devices or jax.devices())
    local = [d for d in devices if d.process_index == jax.process_index()]
    mapped = jax.pmap(step, axis_name=AXIS, devices=devices, donate_argnums=0)
    by_device = NamedSharding(Mesh(np.array(local), (AXIS,)), PartitionSpec(AXIS))

    def put_state(state: Any) -> Any:
        stacked = lambda x: np.broadcast_to(np.asarray(x)[None], (len(local), *np.shape(x)))  # noqa: E731
        return jax.tree.map(lambda x: jax.device_put(stacked(x), by_device), state)

    def put_batch(batch: Batch) -> Batch:
        check_batch(batch, len(local))
        split = jax.tree.map(lambda x: x.reshape(len(local), -1, *x.shape[1:]), batch)
        return jax.tree.map(lambda x: jax.device_put(x, by_device), split)

    def first(x: Array) -> Array:
        return x.addressable_shards[0].data.reshape(x.shape[1:])

    def run(state: Any, batch: Any) -> tuple[Any, dict[str, Array]]:
        state, metrics = mapped(state, batch)
        return state, jax.tree.map(first, metrics)

    def readout(function: Callable) -> Callable[[Any, Any], Any]:
        mapped = jax.pmap(function, axis_name=AXIS, devices=devices)
        return lambda state, batch: jax.tree.map(first, mapped(state, batch))

    def host_view(state: Any) -> Any:
        return jax.tree.map(lambda x: np.asarray(first(x)), state)

    def abstract(state: Any) -> Any:
        return jax.tree.map(lambda x: np.empty(x.shape, x.dtype), state)

    return Parallel(
        step=run,
        readout=readout,
        put_state=put_state,
        put_batch=put_batch,
        host_view=host_view,
        abstract=abstract,
    )


def make_mesh(shape: tuple[int, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Mesh of (batch shards, view shards); state is sharded over both axes together."""
    devices = np.array(devices or jax.devices())
    if int(np.prod(shape)) != devices.size:
        raise ValueError(f"a mesh of {shape} needs {np.prod(shape)} devices, got {devices.size}")
    auto = (AxisType.Auto, AxisType.Auto)
    return Mesh(devices.reshape(shape), (AXIS, VIEW_AXIS), axis_types=auto)


def state_spec(shape: tuple[int, ...], parts: int) -> PartitionSpec:
    """Which axis of an array is cut: the largest divisible one, not the layer axis of a scan."""
    if int(np.prod(shape)) < MIN_SHARDED_SIZE:
        return PartitionSpec()
    first = 1 if len(shape) == 3 else 0
    candidates = [a for a in range(first, len(shape)) if shape[a] % parts == 0]
    if not candidates:
        return PartitionSpec()
    axis = max(candidates, key=lambda a: shape[a])
    return PartitionSpec(*(None,) * axis, (AXIS, VIEW_AXIS))


def state_shardings(state: Any, mesh: Mesh) -> Any:
    """Shardings of a tree of arrays or shapes, by shape alone: moments follow their parameters."""
    return jax.tree.map(lambda x: NamedSharding(mesh, state_spec(x.shape, mesh.size)), state)


def place_views(images: Array, mesh: Mesh) -> Array:
    """Places images [B, V, ...] on the mesh: samples over one axis, views over the other.

    Views stay together where their number is no multiple of the view axis.
    """

    even = images.shape[1] % mesh.shape[VIEW_AXIS] == 0
    spec = PartitionSpec(AXIS, VIEW_AXIS if even else None)
    return jax.lax.with_sharding_constraint(images, NamedSharding(mesh, spec))


def loss_on_shards(function: Callable, mesh: Mesh) -> Callable:
    """``function(prediction, batch, key) -> shares`` run by each chip on its own samples, summed.

    Without it the compiler would see the rasterizer's loop over samples as one loop over the whole
    batch, and every chip would render everything.
    """

    def total(prediction: Any, batch: Batch, key: Array) -> Any:
        return jax.lax.psum(function(prediction, batch, key), AXIS)

    by_sample, whole = PartitionSpec(AXIS), PartitionSpec()
    specs = dict(in_specs=(by_sample, by_sample, whole), out_specs=whole)
    return jax.shard_map(total, mesh=mesh, **specs, check_vma=False)


def fully_sharded(step: Callable, state_shapes: Any, mesh: Mesh) -> Parallel:
    """``jit`` over a mesh; ``step`` must have been made with ``mesh``."""
    shardings = state_shardings(state_shapes, mesh)
    batch_sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    whole = NamedSharding(mesh, PartitionSpec())
    compiled = jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(shardings, batch_sharding),
        out_shardings=(shardings, whole),
    )

    def readout(function: Callable) -> Callable[[Any, Any], Any]:
        return jax.jit(function, in_shardings=(shardings, batch_sharding), out_shardings=whole)

    def put_one(x: Any, sharding: NamedSharding) -> Array:
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    def put_batch(batch: Batch) -> Batch:
        local = max(mesh.shape[AXIS] // jax.process_count(), 1)
        check_batch(batch, local)
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(batch_sharding, np.asarray(x)), batch
        )

    def abstract(state: Any) -> Any:
        return jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings
        )

    return Parallel(
        step=compiled,
        readout=readout,
        put_state=lambda state: jax.tree.map(put_one, state, shardings),
        put_batch=put_batch,
        # The step gives its input's buffers away, so an asynchronous save needs its own copy.
        host_view=lambda state: jax.tree.map(jnp.copy, state),
        abstract=abstract,
    )
