"""Two ways to spread one step over chips: ``pmap`` data parallelism, and a mesh with sharded state.

Both give an object with the same functions, so the training loop does not know which it has.
Batches enter as this process's own samples (NumPy, batch axis first). ``pmap`` keeps a whole copy
of the state on every chip; the mesh (fully sharded data parallelism) cuts every large array of
parameters, moments and average over all chips. Parameters are gathered once a step, and gradients
of each micro-batch are cut as soon as they are summed.
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
    return jax.tree.map(lambda x: NamedSharding(mesh, state_spec(x.shape, mesh.size)), state)


def on_shards(function: Callable, mesh: Mesh, like: Any = None) -> Callable:
    """``function(whole, batch, key) -> (cut, rest)`` run by each chip on its own samples.

    ``whole`` (parameters, statistics) is gathered on every chip first. ``cut`` are results of
    ``sum_and_cut`` on arrays of the shapes of ``like`` ({} without), ``rest`` has been summed.
    Compiled for the whole batch instead, every loop over samples (of attention, of the rasterizer)
    would be one over all chips' samples, and every chip would compute everything.
    """
    whole = PartitionSpec()
    cut = jax.tree.map(lambda x: _spec(x.shape, mesh.size, AXIS), {} if like is None else like)
    # The view axis is left to the compiler, guided by ``place_views``.
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(whole, PartitionSpec(AXIS), whole),
        out_specs=(cut, whole),
        axis_names={AXIS},
        check_vma=False,
    )


def sum_and_cut(tree: Any, mesh: Mesh) -> Any:
    """On a shard: sums over all samples, of which each chip receives the part that it stores."""

    def one(x: Array) -> Array:
        axis = cut_axis(x.shape, mesh.size)
        if axis is None:
            return jax.lax.psum(x, AXIS)
        return jax.lax.psum_scatter(x, AXIS, scatter_dimension=axis, tiled=True)

    return jax.tree.map(one, tree)


def place_views(images: Array, mesh: Mesh) -> Array:
    """On a shard: spreads the views of images [B, V, ...] over the view axis.

    Views stay together where their number is no multiple of the view axis.
    """
    even = images.shape[1] % mesh.shape[VIEW_AXIS] == 0
    spec = PartitionSpec(None, VIEW_AXIS if even else None)
    return jax.lax.with_sharding_constraint(images, spec)


def join_views(tree: Any) -> Any:
    """On a shard: what was spread over the view axis, whole on each of its chips."""
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec()), tree)


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
        # What was restored lies where it belongs, and other processes' parts cannot be fetched.
        if isinstance(x, jax.Array) and x.sharding.is_equivalent_to(sharding, x.ndim):
            return x
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
