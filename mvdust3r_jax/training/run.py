"""A run's programs: initial state, step, evaluation and pictures, compiled for the chips."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import struct

from mvdust3r_jax.training.parallel import DataParallel, Spread
from mvdust3r_jax.training.progress_pictures import picture_step
from mvdust3r_jax.training.sharded import FullySharded, make_mesh
from mvdust3r_jax.training.state import TrainState, init_state
from mvdust3r_jax.training.step import Recipe, evaluate_step, train_step
from mvdust3r_jax.training.watchdog import Watchdog

# What `sharded.FullySharded` gathers at a time.
GATHER = ("step", "layer")


@struct.dataclass
class Run:
    """The state before the first step, or its shapes (see `make_run`), and what runs it.

    step(state, batch) -> (state, metrics); evaluate, pictures(state, batch) -> numbers, rows.
    """

    state: TrainState
    chips: Spread = struct.field(pytree_node=False)
    step: Callable = struct.field(pytree_node=False)
    evaluate: Callable = struct.field(pytree_node=False)
    pictures: Callable = struct.field(pytree_node=False)


def watched(run: Run, watchdog: Watchdog) -> Run:
    """The run without its state; compiling is no silence to the watchdog."""
    compiles = watchdog.compiles
    return run.replace(
        state=None,
        step=compiles(run.step),
        evaluate=compiles(run.evaluate),
        pictures=compiles(run.pictures),
    )


def check_pmap(mesh_shape: tuple[int, int], slices: int, gather: str, devices: int = 0) -> None:
    """ValueError for what ``pmap`` would pass over: it copies the state to all devices alike.

    devices: how many there are, 0 where that is not known yet.
    """
    batch_shards, view_shards = mesh_shape
    everything = batch_shards in (0, devices) or not devices
    if view_shards != 1 or slices != 1 or gather != "step" or not everything:
        raise ValueError(
            "mesh, slices and gather are for parallel='fsdp'; 'pmap' takes (0, 1), 1 and 'step', "
            f"got {tuple(mesh_shape)}, {slices} and {gather!r}"
        )


def spread_by(
    name: str,
    mesh_shape: tuple[int, int] = (0, 1),
    devices: Any = None,
    slices: int = 1,
    gather: str = "step",
) -> Spread:
    """``pmap``: a copy of the state on every device; ``fsdp``: cut over a (batch, view) mesh.

    A batch size of 0 in the mesh stands for all devices that the views leave. slices: of TPU chips,
    between which ``fsdp`` copies the state. gather: what ``fsdp`` gathers at a time, the parameters
    of a whole ``step`` or those of a ``layer``.

    Raises:
      ValueError: another name, a mesh of another number of devices, or one that is not used.
    """
    count = len(devices or jax.devices())
    if gather not in GATHER:
        raise ValueError(f"gather must be one of {GATHER}, got {gather!r}")
    if slices < 1:
        raise ValueError(f"slices must be at least 1, got {slices}")
    if name == "pmap":
        check_pmap(mesh_shape, slices, gather, count)
        return DataParallel(devices)
    if name == "fsdp":
        batch_shards, view_shards = mesh_shape
        shape = batch_shards or count // view_shards, view_shards
        return FullySharded(make_mesh(shape, devices, slices), by_layer=gather == "layer")
    raise ValueError(f"parallel must be 'pmap' or 'fsdp', got {name!r}")


def initial_state(recipe: Recipe, variables: dict, seed: int) -> TrainState:
    """State before the first step."""
    return init_state(variables, recipe.optimizer, recipe.config, seed)


def make_run(recipe: Recipe, variables: dict, seed: int = 0) -> Run:
    """Everything that runs on the chips, of a recipe with a `Spread`; seed: of its randomness.

    variables: arrays, or shapes where a checkpoint brings the state: then nothing is made of it.
    """
    spread = recipe.spread
    begin = functools.partial(initial_state, recipe, seed=seed)
    shapes_alone = isinstance(jax.tree.leaves(variables)[0], jax.ShapeDtypeStruct)
    state = jax.eval_shape(begin, variables) if shapes_alone else begin(variables)
    return Run(
        state=state,
        chips=spread,
        step=spread.compile(functools.partial(train_step, recipe=recipe), state),
        evaluate=spread.readout(functools.partial(evaluate_step, recipe=recipe), state),
        pictures=spread.readout(functools.partial(picture_step, recipe=recipe), state),
    )
