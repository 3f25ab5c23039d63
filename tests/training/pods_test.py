"""Runs of one, two and four processes whose large arrays are really cut: save, kill, resume, fail.

Four devices in all, however many processes there are. Starting processes is most of the cost, so
few are started and each does several things.
"""

import functools
import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import filelock
import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import train
from configs import tiny
from mvdust3r_jax import VARIANTS, ModelConfig
from mvdust3r_jax.training import processes, sharded
from mvdust3r_jax.training.checkpoint import BEST, NEWEST, Checkpoints
from mvdust3r_jax.training.one_run import alone_in
from mvdust3r_jax.training.skipped import SkippedSteps
from tests.train_test import stored_state
from tests.two_processes import run_in

pytestmark = pytest.mark.slow
# With skip CNN: its batch statistics must be those of the batches of all processes.
NETWORK = ModelConfig(16, 1, 1, 16, 1, 1, patch=4, skip=True, skip_width=8, gaussians=False)
STEPS, STOP = 4, 2


def config_of(way, **fields):
    """Four steps of a network so small that its arrays are cut only with a lower threshold."""
    config = tiny.get_config()
    config.variant, config.parallel, config.num_refs = "pods", way, 1
    config.data.height = config.data.width = 8
    config.data.num_inputs, config.data.num_targets = (2,), 0
    config.total_steps, config.warmup_steps = STEPS, 1
    # A best and a regular checkpoint fall on the last step.
    config.eval_every, config.checkpoint_every = STEPS, STOP
    config.eval_batches, config.log_every, config.pictures_every = 1, 1, 0
    config.average_decay, config.tensorboard = 0.9, False
    config.update(fields)
    return config


_RUNS, _prepare = {}, train.prepare


def prepare_once(config, fresh=True):
    """The compiled programs of an earlier run in this process: compiling is most of the cost."""
    key = config.parallel, fresh
    if key not in _RUNS:
        _RUNS[key] = _prepare(config, fresh)
    return _RUNS[key]


def run(folder, way, prepare=prepare_once, **fields):
    """Trains, and says how many arrays of the state were cut over processes when it was saved."""
    VARIANTS["pods"], least = NETWORK, sharded.MIN_SHARDED_SIZE
    save, cut = Checkpoints.save, []

    def counted(self, step, state, *args, **options):
        arrays = [x for x in jax.tree.leaves(state) if isinstance(x, jax.Array)]
        cut.append(sum(not x.is_fully_addressable and not x.is_fully_replicated for x in arrays))
        return save(self, step, state, *args, **options)

    Checkpoints.save, train.prepare, sharded.MIN_SHARDED_SIZE = counted, prepare, 256
    try:
        assert train.train(config_of(way, **fields), Path(folder)) == train.FINISHED
    finally:
        Checkpoints.save, train.prepare, sharded.MIN_SHARDED_SIZE = save, _prepare, least
        del VARIANTS["pods"]
    print("CUT", way, max(cut), flush=True)


# --- What the processes do ------------------------------------------------------------------------


def first(folder):
    """Whole runs, and one that is killed after its third step."""
    for way in ("pmap", "fsdp"):
        run(folder / f"{way}-whole", way)
    keep = SkippedSteps.keep

    def kill_behind_third(self, step, *args):
        if step == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        keep(self, step, *args)

    SkippedSteps.keep = kill_behind_third
    run(folder / "fsdp-killed", "fsdp", checkpoint_every=1)


def again(folder):
    """What ended early goes on; then everything that can fail fails."""
    for name in ("pmap-half", "fsdp-killed"):
        run(folder / name, name[:4])
    with pytest.raises(processes.RunError) as error:
        processes.check_shared_folder(folder / f"of-{jax.process_index()}")
    print("WORKDIR", error.value, flush=True)
    processes.check_shared_folder(folder / "of-all")
    with alone_in(folder / "of-all"), pytest.raises(processes.RunError, match="another run is"):
        with alone_in(folder / "of-all"):
            pass
    refused(folder / "refused")
    full_disk(folder / "full")


def refused(folder):
    """Process 1 has other settings or weights than process 0, or fails where process 0 does not."""
    second, opened = jax.process_index() == 1, train.make_source

    def other_weights(config, fresh):
        made = prepare_once(config, fresh)
        shift = jax.tree.map(lambda x: x + 1e-6 * second, made.state.params)
        return made.replace(state=made.state.replace(params=shift))

    def no_data(error, **settings):
        if second:
            raise error
        return opened(**settings)

    missing = FileNotFoundError(2, "No such file or directory", "/mnt/data")
    with pytest.MonkeyPatch.context() as patch:
        tell_error("SETTINGS", folder, peak_lr=0.1 if second else 0.2)
        tell_error("CHECKED", folder, stop_step=-1 if second else 0)
        patch.setattr(train, "make_source", functools.partial(no_data, missing))
        tell_error("DATA", folder)
        patch.setattr(train, "make_source", functools.partial(no_data, KeyError("images")))
        tell_error("BUG", folder)
        patch.setattr(train, "make_source", opened)
        tell_error("WEIGHTS", folder, prepare=other_weights)


def tell_error(name, folder, prepare=None, **fields):
    """The run must end with an error, whose type and words are printed, and how long it took."""
    started = time.monotonic()
    with pytest.raises(Exception) as error:
        run(folder, "pmap", prepare or prepare_once, **fields)
    took = time.monotonic() - started
    print(name, json.dumps([took, type(error.value).__name__, str(error.value)]), flush=True)


def on_four(folder):
    """A run of two processes goes on with four."""
    run(folder / "fsdp-on-four", "fsdp")


def cut_state(step):
    """One array cut over all devices, of contents that depend on the step and do not compress."""
    sharding = NamedSharding(sharded.make_mesh((4, 1)), PartitionSpec("data"))
    host = np.random.default_rng(step).random((4, 640_000)).astype(np.float32)
    return {"a": jax.make_array_from_callback(host.shape, sharding, lambda i: host[i])}


def full_disk(folder):
    """The arrays of one process cannot be written; before and after that it can."""
    checkpoints = Checkpoints(folder, NETWORK, "{}", limit_s=8)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for step, place in ((1, NEWEST), (2, NEWEST), (3, NEWEST), (4, BEST), (5, BEST)):
        # Less than its arrays take, and more than the file that its log goes to.
        broken = jax.process_index() == 1 and step in (2, 4)
        limit = 1_000_000 if broken else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        if place == NEWEST:
            checkpoints.save(step, cut_state(step), {})
        else:
            made = functools.partial(cut_state, step)
            checkpoints.save_if_best(step, made, {}, "loss", 1.0 / step)
        checkpoints.wait()
    steps = {NEWEST: checkpoints.newest.steps(), BEST: checkpoints.best.steps()}
    restored = checkpoints.restore({"a": as_cut(cut_state(0)["a"])})
    for shard in restored.state["a"].addressable_shards:
        want = np.random.default_rng(3).random((4, 640_000)).astype(np.float32)[shard.index]
        np.testing.assert_array_equal(shard.data, want)
    checkpoints.close()
    print("FULL", json.dumps(steps), flush=True)


def as_cut(x):
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


_PROGRAM = """
import faulthandler, os, pathlib, sys
faulthandler.dump_traceback_later(450)  # a hang shows where, before the time limit ends it
index, port, root, folder, count, part = sys.argv[1:]
sys.path.insert(0, root)
from tests.xla_flags import xla_flags
os.environ["XLA_FLAGS"] = xla_flags(4 // int(count))
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.config.update("jax_default_matmul_precision", "float32")
from tests.two_processes import share_programs
share_programs(folder + "/cache")
jax.distributed.initialize(f"127.0.0.1:{port}", int(count), int(index))
from absl import logging
logging.set_verbosity(logging.INFO)
logging.get_absl_handler().addFilter(lambda record: "orbax" not in record.pathname)
import tests.training.pods_test as pods
getattr(pods, part)(pathlib.Path(folder))
"""


def work(count, folder, part, **options):
    return run_in(
        count,
        folder / f"{part}.py",
        _PROGRAM,
        *(str(folder), str(count), part),
        timeout_s=500,
        **options,
    )


@pytest.fixture(scope="module")
def pod(tmp_path_factory):
    """The folder of all runs and what their processes said; made once for all xdist workers."""
    run_id = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run_id is None:
        return all_runs(tmp_path_factory.mktemp("pod"))
    folder = tmp_path_factory.getbasetemp().parent / f"pod-{run_id[:8]}"
    folder.mkdir(exist_ok=True)
    said = folder / "said.json"
    with filelock.FileLock(folder / "lock"):
        if not said.exists():
            said.write_text(json.dumps(all_runs(folder)[1]))
    return folder, json.loads(said.read_text())


def all_runs(folder):
    """Whole runs and a killed one; then some go on from half way; then with four processes."""
    said = {"first": work(2, folder, "first", code=-signal.SIGKILL)}
    for half, whole in (("pmap-half", "pmap-whole"), ("fsdp-on-four", "fsdp-whole")):
        shutil.copytree(folder / whole, folder / half)
        shutil.rmtree(folder / half / NEWEST / str(STEPS))
    said["again"] = work(2, folder, "again")
    said["four"] = work(4, folder, "on_four")
    return folder, said


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same run in one process."""
    folder = tmp_path_factory.mktemp("alone")
    run(folder, "pmap")
    return folder


def numbers(folder):
    """Losses of steps and evaluations, and the norms of the gradients."""
    records = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    known = [r for r in records if r["kind"] in ("train", "eval_held_out")]
    return [r["loss"] for r in known], [r["grad_norm"] for r in known if "grad_norm" in r]


def test_arrays_are_really_cut_over_the_processes(pod):
    """What these tests are about: most of the state lies on several processes with fsdp."""
    for name, runs in (("again", 1), ("four", 1)):
        for said in pod[1][name]:
            cut = [line.split()[1:] for line in said.splitlines() if line.startswith("CUT")]
            assert [int(n) > 40 for way, n in cut if way == "fsdp"] == [True] * runs
            assert all(n == "0" for way, n in cut if way == "pmap")


@pytest.mark.parametrize("way", ["pmap", "fsdp"])
def test_two_processes_save_the_best_and_the_newest_at_one_step(pod, way):
    """Both are there; neither waits in the other's barrier."""
    whole = pod[0] / f"{way}-whole"
    assert sorted(p.name for p in (whole / NEWEST).iterdir()) == ["2", "4"]
    assert [p.name for p in (whole / BEST).iterdir()] == ["4"]


@pytest.mark.parametrize("name", ["pmap-half", "fsdp-killed"])
def test_two_processes_resume_bit_for_bit(pod, name):
    """From the middle, or killed while saving: the end has the very same bits."""
    states = [stored_state(pod[0] / n, STEPS) for n in (name, f"{name[:4]}-whole")]
    jax.tree.map(np.testing.assert_array_equal, *states)


@pytest.mark.parametrize(
    "name", ["pmap-whole", "fsdp-whole", "pmap-half", "fsdp-killed", "fsdp-on-four"]
)
def test_any_number_of_processes_trains_as_one(pod, alone, name):
    """Losses and gradients of every step, evaluations too, also if the number changed half way."""
    (losses, norms), (expected, expected_norms) = numbers(pod[0] / name), numbers(alone)
    np.testing.assert_allclose(losses, expected, rtol=2e-5)
    np.testing.assert_allclose(norms, expected_norms, rtol=1e-4)
    assert len(norms) == STEPS


def test_a_failed_write_of_one_process_is_known_to_all_and_the_next_save_works(pod):
    """Both places: the step is missing, both logs name process and cause, later steps are there."""
    for said in pod[1]["again"]:
        for step, place in ((2, NEWEST), (4, BEST)):
            (line,) = [x for x in said.splitlines() if f"saving {place}/{step} failed" in x]
            assert "process 1: " in line and "File too large" in line
            assert "process 0: OtherFailed: another process has failed" in line
        (steps,) = [x for x in said.splitlines() if x.startswith("FULL")]
        assert json.loads(steps[4:]) == {NEWEST: [3, 1], BEST: [5]}


def test_a_workdir_that_is_not_shared_is_refused_before_the_run(pod):
    """By all processes, with the one that does not see it; nothing is left behind."""
    for said in pod[1]["again"]:
        (line,) = [x for x in said.splitlines() if x.startswith("WORKDIR")]
        assert "one folder that all 2 processes see" in line and "process 1 (on " in line
    assert not list((pod[0] / "of-0").iterdir())


@pytest.mark.parametrize(
    "name, told",
    [
        ("SETTINGS", "the same settings, but peak_lr: 0.2 (process 0), 0.1 (process 1)"),
        ("CHECKED", "process 1: stop_step must lie in 0..total_steps"),
        ("DATA", "process 1: data: [Errno 2] No such file or directory: '/mnt/data'"),
        ("WEIGHTS", "the same initial weights (of config.seed and init_from), but digest: "),
    ],
)
def test_what_one_process_has_otherwise_or_cannot_do_ends_all_of_them(pod, name, told):
    """At once, with the same words; a program's own error stays one where it happened."""
    for said in pod[1]["again"]:
        took, kind, words = the_line(said, name)
        assert kind == "RunError" and told in words and took < 60
    zero, one = (the_line(said, "BUG")[1:] for said in pod[1]["again"])
    assert zero == ["RunError", "process 1: KeyError: 'images'"] and one == ["KeyError", "'images'"]


def the_line(said, name):
    """What a process has printed as JSON behind this name."""
    (line,) = [x for x in said.splitlines() if x.startswith(f"{name} ")]
    return json.loads(line.removeprefix(name))
