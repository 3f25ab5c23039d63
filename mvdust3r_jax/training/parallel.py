"""How a step is spread over chips; `pmap` data parallelism, and no spreading at all.

A way of spreading is an object with two sides. The step's is `OneChip`: the mapped axis, the
network and how its arrays lie. The loop's is `Spread`: what compiles a step, and what brings states
and batches to the chips and back. `sharded.FullySharded` is the third way. Batches enter as this
process's own samples (NumPy, batch axis first). ``pmap`` keeps a whole copy of the state on every
chip.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from mvdust3r_jax.models.config import ModelConfig
from mvdust3r_jax.types import Batch

AXIS = "data"


def check_batch(batch: Batch, devices: int) -> None:
    """A batch that the devices of this process cannot share out evenly is an error."""
    size = batch.images.shape[0]
    if size % devices:
        raise ValueError(
            f"this process's batch of {size} cannot be shared by its {devices} devices; "
            "choose a batch size that is a multiple of the number of devices"
        )


class OneChip:
    """The step as it is written: nothing is spread. Base of the ways that spread it."""

    # Mapped axis (or axes) over which a step sums; None without one.
    axis_name: str | tuple[str, ...] | None = None

    def network(self, config: ModelConfig) -> ModelConfig:
        """The network as it computes on these chips."""
        return dataclasses.replace(config, bn_axis_name=self.axis_name, gather_axis=None)

    def share(self) -> tuple[int, int]:
        """(index, number): which of how many shares of each batch this process loads."""
        return jax.process_index(), jax.process_count()

    def place_views(self, images: Array) -> Array:
        """Images [B, V, ...] as the network gets them."""
        return images

    def join_views(self, tree: Any) -> Any:
        """Undoes `place_views` on what the network makes of them."""
        return tree

    def sum_gradients(self, grads: Any, like: Any) -> Any:
        """This chip's gradients of one micro-batch, as they are accumulated.

        like: whole parameters, or their shapes.
        """
        return grads

    def on_chips(self, function: Callable, like: Any = None) -> Callable:
        """``function(whole, batch, key) -> (gradients, rest)`` run on every chip's samples.

        ``rest`` is summed by the function itself; ``gradients``, of the shapes of ``like``, are
        those of the whole batch afterwards.
        """
        return function


class Spread(OneChip, abc.ABC):
    """What the loop uses of a way of spreading, beside what the step does.

    ``state`` is one of `TrainState`'s, or its shapes where programs are made for such states.
    """

    @abc.abstractmethod
    def program(self, step: Callable, state: Any) -> Callable:
        """The step for states like this one; can be lowered, also for chips elsewhere."""

    @abc.abstractmethod
    def compile(self, step: Callable, state: Any) -> Callable:
        """``step(state, batch) -> (state, metrics)`` on the chips; the state is given away."""

    @abc.abstractmethod
    def readout_program(self, function: Callable, state: Any) -> Callable:
        """A function of (state, batch) that keeps the state; can be lowered."""

    @abc.abstractmethod
    def readout(self, function: Callable, state: Any) -> Callable[[Any, Any], Any]:
        """``function(state, batch)`` on the chips; what it returns is the same on all of them."""

    @abc.abstractmethod
    def put_state(self, state: Any) -> Any:
        """A host or single-device state, or a restored one, to its places on the chips."""

    @abc.abstractmethod
    def put_batch(self, batch: Batch) -> Batch:
        """This process's samples, shared by its devices."""

    @abc.abstractmethod
    def host_view(self, state: Any) -> Any:
        """A copy of a state on the chips, as it is saved."""

    @abc.abstractmethod
    def abstract(self, state: Any) -> Any:
        """Shapes and places to restore to."""


class DataParallel(Spread):
    """``pmap`` over all devices, or over those given."""

    axis_name = AXIS

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        self._devices = list(devices or jax.devices())
        self._local = [d for d in self._devices if d.process_index == jax.process_index()]
        self._by_device = NamedSharding(Mesh(np.array(self._local), (AXIS,)), PartitionSpec(AXIS))

    def on_chips(self, function: Callable, like: Any = None) -> Callable:
        """See `OneChip`; gradients are summed at the end, once."""

        def summed(*arguments: Any) -> tuple[Any, Any]:
            gradients, rest = function(*arguments)
            return jax.lax.psum(gradients, AXIS), rest

        return summed

    def program(self, step: Callable, state: Any) -> Callable:
        """See `Spread`; arrays have a device axis."""
        return jax.pmap(step, axis_name=AXIS, devices=self._devices, donate_argnums=0)

    def compile(self, step: Callable, state: Any) -> Callable:
        """See `Spread`."""
        mapped = self.program(step, state)

        def run(state: Any, batch: Any) -> tuple[Any, dict[str, Array]]:
            state, metrics = mapped(state, batch)
            return state, jax.tree.map(_first, metrics)

        return run

    def readout_program(self, function: Callable, state: Any) -> Callable:
        """See `Spread`; arrays have a device axis."""
        return jax.pmap(function, axis_name=AXIS, devices=self._devices)

    def readout(self, function: Callable, state: Any) -> Callable[[Any, Any], Any]:
        """See `Spread`."""
        mapped = self.readout_program(function, state)
        return lambda state, batch: jax.tree.map(_first, mapped(state, batch))

    def put_state(self, state: Any) -> Any:
        """A host or single-device state to a copy on every chip."""

        def put(x: Any) -> Array:
            copies = np.broadcast_to(np.asarray(x)[None], (len(self._local), *np.shape(x)))
            return jax.device_put(copies, self._by_device)

        return jax.tree.map(put, state)

    def put_batch(self, batch: Batch) -> Batch:
        """See `Spread`."""
        count = len(self._local)
        check_batch(batch, count)
        return jax.tree.map(
            lambda x: jax.device_put(x.reshape(count, -1, *x.shape[1:]), self._by_device), batch
        )

    def host_view(self, state: Any) -> Any:
        """A copy without a device axis, as it is saved."""
        # By NumPy: reshaping on the device would compile a program for every shape.
        return jax.tree.map(lambda x: np.array(x.addressable_shards[0].data)[0], state)

    def abstract(self, state: Any) -> Any:
        """See `Spread`."""
        return jax.tree.map(lambda x: np.empty(x.shape, x.dtype), state)


def _first(x: Array) -> Array:
    return x.addressable_shards[0].data.reshape(x.shape[1:])
