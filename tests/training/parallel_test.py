"""One step gives the same loss and update however it is spread over devices.

`pods_test` is about several processes.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.box import box_views
from mvdust3r_jax import ModelConfig, MVDust3r
from mvdust3r_jax.training import sharded
from mvdust3r_jax.training.objective_config import ObjectiveConfig
from mvdust3r_jax.training.optimizer import OptimizerConfig
from mvdust3r_jax.training.parallel import DataParallel
from mvdust3r_jax.training.run import make_run
from mvdust3r_jax.training.sharded import FullySharded, make_mesh, state_shardings
from mvdust3r_jax.training.state import StepConfig
from mvdust3r_jax.training.step import make_recipe
from tests.random_networks import random_variables
from tests.two_processes import run_in_two

# With skip CNN: its batch statistics must be those of the whole batch.
MODEL = ModelConfig(16, 1, 1, 16, 1, 1, patch=4, skip=True, skip_width=8, gaussian_hidden=16)
OBJECTIVE = ObjectiveConfig(
    num_refs=2,
    num_targets=1,
    weights={"confidence": 1.0, "rgb": 1.0, "scale_clip": 1.0},
    render_paths=1,
    render_views=2,
)
OPTIMIZER = OptimizerConfig(peak_lr=1e-3, warmup_steps=0, total_steps=10)
STEP = StepConfig(average_decay=0.9)
# Without rendering and batch statistics, which most of a step's compilation is for; two samples a
# device, and paths that see each other.
POINTS = dict(
    network=dataclasses.replace(MODEL, skip=False, gaussians=False, cross_ref=True),
    objective=ObjectiveConfig(num_refs=2, num_targets=1),
)


def batch_of(size=16):
    """Different samples, with holes in their depth that differ in number."""
    rng = np.random.default_rng(3)
    batch = box_views(rng, size, 3, 8, 8)
    holes = rng.random(batch.depth_m.shape) < rng.random((size, 1, 1, 1))
    return batch.replace(depth_m=np.where(holes, 0, batch.depth_m).astype(np.float32))


variables = functools.cache(random_variables)


def make(way, network=MODEL, objective=OBJECTIVE, config=STEP):
    """The run of this way of spreading: state, step, evaluation."""
    spread = {
        "1 device": lambda: DataParallel(jax.devices()[:1]),
        "pmap 8": DataParallel,
        "fsdp 8": lambda: FullySharded(make_mesh((8, 1))),
        "fsdp 8 by layer": lambda: FullySharded(make_mesh((8, 1)), by_layer=True),
        "2 slices": lambda: FullySharded(make_mesh((4, 2), slices=2)),
        "2 slices by layer": lambda: FullySharded(make_mesh((4, 2), slices=2), by_layer=True),
    }[way]()
    model, start = MVDust3r(spread.network(network)), variables(network)
    recipe = make_recipe(*(model, OPTIMIZER, objective, config, start["params"]), spread=spread)
    return make_run(recipe, start)


def one_step(way, **options):
    """Metrics, and the state after one step, as one device would hold it."""
    run = make(way, **options)
    batch = run.chips.put_batch(batch_of())
    new, metrics = run.step(run.chips.put_state(run.state), batch)
    return jax.device_get(metrics), jax.device_get(run.chips.host_view(new))


@functools.cache
def on_one_device(rendering):
    return one_step("1 device", **({} if rendering else POINTS))


def assert_same_metrics(metrics, expected):
    """Within 1e-5; less for the update, which Adam makes as large where gradients are rounding."""
    for name in expected:
        rtol = 1e-2 if name == "update_norm" else 1e-5
        np.testing.assert_allclose(metrics[name], expected[name], rtol=rtol, atol=1e-6)


def assert_same_gradients(state, expected):
    """Moments (Adam's first is the gradient) and batch statistics."""
    for part in ("opt_state", "batch_stats"):
        trees = getattr(state, part), getattr(expected, part)
        for a, b in zip(*map(jax.tree.leaves, trees), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def assert_same_parameters(state, expected):
    """Nearly all: of a gradient that is only rounding Adam's first step may go either way."""
    trees = jax.tree.leaves(state.params), jax.tree.leaves(expected.params)
    moved = [np.abs(a - b) for a, b in zip(*trees, strict=True)]
    share = np.mean(np.concatenate([m.ravel() for m in moved]) > 1e-5)
    assert share < 0.01, f"{share:.2%} of the parameters differ by more than 1e-5"


@pytest.mark.parametrize("way", ["pmap 8", "fsdp 8"])
def test_spread_step_equals_the_step_of_one_device(way):
    """Loss terms, gradients (Adam's first moment) and batch statistics agree within 1e-5."""
    expected, one = on_one_device(True)
    metrics, state = one_step(way)
    assert_same_metrics(metrics, expected)
    assert_same_gradients(state, one)
    assert_same_parameters(state, one)


def test_accumulated_step_of_two_slices_equals_that_of_one_device():
    """Views cut too, two micro-batches on every chip, against the whole batch at once."""
    expected, one = on_one_device(False)
    accumulated = dataclasses.replace(STEP, accumulation=2)
    metrics, state = one_step("2 slices", **POINTS, config=accumulated)
    assert_same_metrics(metrics, expected)
    assert_same_gradients(state, one)
    assert_same_parameters(state, one)


BY_LAYER = dict(POINTS, network=dataclasses.replace(POINTS["network"], remat=True))


def test_step_that_gathers_layer_by_layer_equals_that_of_one_device(monkeypatch):
    """Of two slices, views cut too, in two micro-batches; arrays of layers are really cut."""
    monkeypatch.setattr(sharded, "MIN_SHARDED_SIZE", 256)
    expected, one = on_one_device(False)
    accumulated = dataclasses.replace(STEP, accumulation=2)
    metrics, state = one_step("2 slices by layer", **BY_LAYER, config=accumulated)
    assert_same_metrics(metrics, expected)
    assert_same_gradients(state, one)


def test_gathering_layer_by_layer_never_holds_all_layers():
    """The plan of a step of a deep network lacks most of its layers, and of their gradients."""
    deep = ModelConfig(64, 24, 1, 64, 1, 1, patch=8, skip=False, gaussians=False, remat=True)
    layers = 4 * 24 * 12 * 64**2  # bytes of the encoder's matrices

    def planned(way):
        run = make(way, network=deep, objective=POINTS["objective"])
        batch = jax.eval_shape(lambda: jax.device_put(batch_of(8)))
        return run.step.lower(run.state, batch).compile().memory_analysis().temp_size_in_bytes

    once, by_layer = planned("fsdp 8"), planned("fsdp 8 by layer")
    assert once - by_layer > 1.5 * layers, (once, by_layer, layers)


def test_layers_are_gathered_one_at_a_time_only_if_they_are_not_kept():
    """Without rematerialization it would save nothing."""
    with pytest.raises(ValueError, match="gather='layer' needs remat"):
        make("fsdp 8 by layer", **POINTS)


def test_sharded_state_is_spread_over_all_devices():
    """Large arrays are cut into as many parts as there are devices, moments like parameters."""
    shapes = {"kernel": jax.ShapeDtypeStruct((12, 768, 3072), jnp.float32), "bias": jnp.ones(8)}
    mesh = make_mesh((4, 2))
    shardings = state_shardings(shapes, mesh)
    assert shardings["kernel"].shard_shape((12, 768, 3072)) == (12, 768, 384)
    assert shardings["bias"].shard_shape((8,)) == (8,)


def test_each_slice_has_a_whole_state():
    """Cut over the chips of a slice, copied between slices; chips of a slice stay together."""
    slice_of = {device: number for number, device in enumerate(jax.devices())}

    class Chip:
        """A device of slice 0 or 1, in turns."""

        def __init__(self, device):
            self.device, self.slice_index = device, slice_of[device] % 2

    mesh = make_mesh((4, 2), slices=2)
    shapes = {"kernel": jax.ShapeDtypeStruct((12, 768, 3072), jnp.float32)}
    shard = state_shardings(shapes, mesh)["kernel"].shard_shape((12, 768, 3072))
    assert shard == (12, 768, 768)
    chips = sorted(map(Chip, jax.devices()), key=sharded._slice_of)
    assert [chip.slice_index for chip in chips] == [0] * 4 + [1] * 4
    with pytest.raises(ValueError, match="3 batch shards cannot lie in 2 slices"):
        make_mesh((3, 1), jax.devices()[:3], slices=2)


def test_evaluation_is_spread_too():
    """The same numbers from pmap on 8 devices, and from sharded state, as from one device."""
    results = []
    for way in ("1 device", "pmap 8", "fsdp 8"):
        run = make(way)
        batch = run.chips.put_batch(batch_of())
        results.append(run.evaluate(run.chips.put_state(run.state), batch))
    for name in results[0]:
        for spread_result in results[1:]:
            np.testing.assert_allclose(spread_result[name], results[0][name], rtol=1e-5, atol=1e-6)


def test_uneven_batch_is_an_error():
    """The batch and the number of devices are quoted."""
    with pytest.raises(ValueError, match="batch of 6 .* 8 devices"):
        DataParallel().put_batch(batch_of(6))


def test_mesh_of_the_wrong_size_is_an_error():
    """Needed and present devices are quoted."""
    with pytest.raises(ValueError, match="needs 6 devices, got 8"):
        make_mesh((3, 2))


_PREEMPTED = """
import os, signal, sys, time
os.environ["XLA_FLAGS"] = ""
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{sys.argv[2]}", 2, int(sys.argv[1]))
sys.path[:0] = [sys.argv[3]]
from jax.experimental import multihost_utils
from mvdust3r_jax.training.preemption import Preemption
# Whoever started the tests in the background has these ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
with Preemption() as stop:
    for step in range(1, 200):
        # Stands for the training step: it waits for the other process.
        multihost_utils.process_allgather(jax.numpy.float32(step))
        if step == 3 and jax.process_index() == 1:
            os.kill(os.getpid(), getattr(signal, sys.argv[4]))
        time.sleep(0.05)
        if stop.after(step):
            print("STOPPED", step)
            break
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_to_one_of_two_processes_ends_both_after_the_same_step(tmp_path, name):
    """Neither waits for the other, and neither is killed."""
    outputs = run_in_two(tmp_path / "worker.py", _PREEMPTED, name, timeout_s=120)
    steps = [[x for x in said.splitlines() if x.startswith("STOPPED")] for said in outputs]
    assert steps[0] and steps[0] == steps[1], outputs
    assert 3 <= int(steps[0][0].split()[1]) < 199
