"""Training: one loop, from a configuration to checkpoints.

    python train.py --config configs/small_mvd.py --workdir DIR [--config.peak_lr=1e-3 ...]

Started again with the same workdir it goes on where the newest readable checkpoint stands, bit for
bit as if it had never stopped (on CPU). SIGTERM (with several processes: to any of them) saves and
exits with 0. docs/training.md explains
the fields, docs/tpu_pods.md several machines.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import app, flags, logging
from jax.experimental import multihost_utils
from ml_collections import config_flags

from configs import defaults
from data.iterators import DevicePrefetch
from data.sources import make_source
from mvdust3r_jax import VARIANTS, ModelConfig, MVDust3r, lpips, parallel, port
from mvdust3r_jax.checkpoint import Checkpoints
from mvdust3r_jax.metric_log import CompileCounter, MetricLog, Progress
from mvdust3r_jax.objective import ObjectiveConfig
from mvdust3r_jax.optimizer import OptimizerConfig
from mvdust3r_jax.panels import contact_sheet, make_picture_step
from mvdust3r_jax.train_step import StepConfig, init_state, make_eval_step, make_train_step
from mvdust3r_jax.weights import load_source

OUT_OF_MEMORY = (
    "The device ran out of memory. In this order, try: a smaller config.data.batch_size, or the "
    "same one in parts (config.accumulation); config.remat='full'; config.dtype='bfloat16'; fewer "
    "config.data.num_inputs; config.loss.render_views and render_paths; config.parallel='fsdp'."
)


class NonFiniteError(FloatingPointError):
    """Too many steps in a row whose loss or gradient was not finite."""


# --- Configuration -> plain dataclasses -----------------------------------------------------------


def check_fields(config: ml_collections.ConfigDict) -> None:
    """Every field must stand in configs/defaults.py, and the other way round."""
    known, given = defaults.get_config(), config

    def compare(known, given, prefix: str) -> list[str]:
        wrong = [f"unknown {prefix}{k}" for k in sorted(set(given) - set(known))]
        wrong += [f"missing {prefix}{k}" for k in sorted(set(known) - set(given))]
        for name in set(known) & set(given):
            if isinstance(known[name], ml_collections.ConfigDict) and name != "eval":
                wrong += compare(known[name], given[name], f"{prefix}{name}.")
        return wrong

    wrong = compare(known, given, "")
    for name, overrides in given.get("eval", {}).items():
        wrong += [f"unknown eval.{name}.{k}" for k in sorted(set(overrides) - set(known.data))]
    if wrong:
        raise ValueError("the config does not fit configs/defaults.py: " + "; ".join(wrong))
    for name, overrides in config.eval.items():
        # The objective tells render-only views from inputs by this one number.
        if overrides.get("num_targets", config.data.num_targets) != config.data.num_targets:
            raise ValueError(
                f"eval.{name}.num_targets = {overrides.num_targets} must be data.num_targets = "
                f"{config.data.num_targets}: evaluation has as many render-only views as training"
            )
    if config.data.prefetch < 1:
        raise ValueError(f"data.prefetch must be at least 1, got {config.data.prefetch}")
    if not 0 <= config.stop_step <= config.total_steps:
        raise ValueError(
            f"stop_step must lie in 0..total_steps = {config.total_steps}, got {config.stop_step}"
        )


def model_config(config: ml_collections.ConfigDict) -> ModelConfig:
    """The row of VARIANTS with this run's options."""
    if config.variant not in VARIANTS:
        raise ValueError(f"variant must be one of {sorted(VARIANTS)}, got {config.variant!r}")
    return dataclasses.replace(
        VARIANTS[config.variant],
        dtype=config.dtype,
        remat={"": False, "full": True}.get(config.remat, config.remat),
        sh_degree=config.sh_degree,
        bn_axis_name=parallel.AXIS,
    )


def step_parts(config: ml_collections.ConfigDict):
    """Optimizer, objective and step settings."""
    optimizer = OptimizerConfig(
        name=config.optimizer,
        freeze=tuple(config.freeze),
        **{
            name: config[name]
            for name in ("peak_lr", "final_lr", "warmup_steps", "total_steps", "b1", "b2")
        },
        decay_steps=config.decay_steps or None,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
    )
    objective = ObjectiveConfig(
        num_refs=config.num_refs,
        num_targets=config.data.num_targets,
        sh_degree=config.sh_degree,
        max_scale=VARIANTS[config.variant].max_scale,
        **config.loss.to_dict(),
    )
    return optimizer, objective, StepConfig(config.accumulation, config.average_decay)


def open_source(config: ml_collections.ConfigDict, **overrides: Any):
    """This process's share of the batches that ``config.data`` describes."""
    settings = config.data.to_dict() | overrides
    del settings["prefetch"]
    return make_source(
        process_index=jax.process_index(), process_count=jax.process_count(), **settings
    )


def check_eval_sources(config: ml_collections.ConfigDict) -> None:
    """Opens what the run will evaluate on: a wrong set is an error before the first step."""
    for name, overrides in config.eval.items() if config.eval_every else ():
        try:
            open_source(config, **overrides.to_dict())
        except (OSError, ValueError) as error:
            raise ValueError(f"config.eval.{name} cannot be opened: {error}") from error


# --- The chips ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Run:
    """The initial state and the functions that run it."""

    state: Any
    chips: parallel.Parallel
    evaluate: Callable[[Any, Any], dict[str, Any]]
    pictures: Callable[[Any, Any], dict[str, Any]]


def spread(config: ml_collections.ConfigDict, model: MVDust3r, variables: dict) -> Run:
    """Everything that runs on the chips, by ``config.parallel``."""
    optimizer_config, objective, step_config = step_parts(config)
    perceptual = lpips.load_weights() if config.loss.lpips else None
    make = functools.partial(
        make_train_step,
        *(model, optimizer_config, objective, step_config, variables["params"]),
        perceptual=perceptual,
    )
    axis_name, mesh = parallel.AXIS if config.parallel == "pmap" else None, None
    if config.parallel == "pmap":
        optimizer, step = make(axis_name=axis_name)
        chips = parallel.data_parallel(step)
    elif config.parallel == "fsdp":
        batch_shards, view_shards = config.mesh
        mesh = parallel.make_mesh((batch_shards or jax.device_count() // view_shards, view_shards))
        optimizer, step = make(mesh=mesh)
        initial = functools.partial(init_state, optimizer=optimizer, config=step_config, seed=0)
        chips = parallel.fully_sharded(step, jax.eval_shape(initial, variables), mesh)
    else:
        raise ValueError(f"parallel must be 'pmap' or 'fsdp', got {config.parallel!r}")
    evaluate = make_eval_step(
        model, objective, perceptual=perceptual, axis_name=axis_name, mesh=mesh
    )
    return Run(
        state=init_state(variables, optimizer, step_config, config.seed),
        chips=chips,
        evaluate=chips.readout(evaluate),
        pictures=chips.readout(make_picture_step(model, objective)),
    )


def evaluate(config: ml_collections.ConfigDict, run: Run, state: Any, overrides: dict):
    """Mean of every term over the same ``eval_batches`` batches each time; and a sample's pictures.

    Averaged weights are used where they are kept.
    """
    source = open_source(config, **overrides)
    batches = [next(source)[0] for _ in range(config.eval_batches)]
    results = [run.evaluate(state, run.chips.put_batch(batch)) for batch in batches]
    results = jax.device_get(results)
    return {key: float(np.mean([r[key] for r in results])) for key in results[0]}, batches[0]


# --- The loop -------------------------------------------------------------------------------------


def train(config: ml_collections.ConfigDict, workdir: Path, profile: range = range(0)) -> None:
    """Runs to ``stop_step`` (or ``total_steps``), or until SIGTERM.

    profile: steps that are traced.
    """
    check_fields(config)
    stop, compiles, trace = _Preemption(), CompileCounter(), _Trace(workdir / "profile", profile)
    logging.info("devices: %s", jax.devices())

    # Model and state
    network = model_config(config)
    model = MVDust3r(network)
    run = spread(config, model, _init_variables(config, model, network))
    chips = run.chips

    # Data, and where an earlier run of this workdir stopped
    source = open_source(config)
    check_eval_sources(config)
    checkpoints = Checkpoints(
        workdir, network, config.to_json_best_effort(), keep=config.keep_checkpoints
    )
    restored = checkpoints.restore(chips.abstract(run.state))
    first_step, state = 0, run.state
    if restored is not None:
        first_step, state = restored.step, restored.state
        source.set_state(restored.data_state)
        logging.info("going on after step %d", first_step)
    state = chips.put_state(state)
    del restored
    run = dataclasses.replace(run, state=None)
    source = DevicePrefetch(source, chips.put_batch, depth=config.data.prefetch)

    log = MetricLog(
        workdir, first_step, tensorboard=config.tensorboard, active=jax.process_index() == 0
    )
    end = config.stop_step or config.total_steps
    progress = Progress(first_step, end)
    pending, compiled, step = None, compiles.count, first_step

    def due(every: int, step: int) -> bool:
        return every > 0 and step % every == 0

    for step in range(first_step + 1, end + 1):
        trace.before(step)

        # Input: batches wait on the chips already
        started = time.perf_counter()
        batch, info = next(source)
        samples = len(info["ids"]) * jax.process_count()
        progress.count(samples, time.perf_counter() - started)

        # Step; the numbers of the one before are fetched while this one runs
        state, metrics = chips.step(state, batch)
        if pending is not None:
            _settle(config, pending, log, chips, state, checkpoints, source)
        pending = (step, metrics, info)

        last = stop.after(step) or step == end
        trace.after(step, metrics, last)
        if compiles.count > compiled:
            compiled = compiles.count
            shape = list(batch.images.shape)
            log.event(step, "compile", count=compiled, seconds=compiles.seconds, images=shape)
        if due(config.log_every, step):
            numbers = jax.device_get(metrics) | progress.report(step)
            log.scalars(step, numbers)
            logging.info(
                "step %d  loss %.4f  %.3f s/step  %.1f examples/s  input %.1f %%  %.0f s left",
                *(step, numbers["loss"], numbers["step_time_s"], numbers["examples_per_s"]),
                *(100 * numbers["input_wait_share"], numbers["eta_s"]),
            )

        # Evaluation, pictures and checkpoints
        if due(config.eval_every, step):
            judged = None
            for name, overrides in config.eval.items():
                results, example = evaluate(config, run, state, overrides.to_dict())
                judged = results[config.best_metric] if judged is None else judged
                log.scalars(step, results, kind=f"eval_{name}")
                logging.info("eval %s at step %d: %s", name, step, results)
                if due(config.pictures_every, step):
                    rows = jax.device_get(run.pictures(state, chips.put_batch(example)))
                    log.pictures(step, {name: contact_sheet(rows)})
            checkpoints.save_if_best(
                step,
                functools.partial(chips.host_view, state),
                source.get_state(),
                config.best_metric,
                judged,
            )
        if due(config.checkpoint_every, step) or last:
            _settle(config, pending, log, chips, state, checkpoints, source)
            pending = None
            saved = checkpoints.save(step, chips.host_view(state), source.get_state())
            log.event(step, "checkpoint", saved=saved)
        if last:
            break

    checkpoints.close()
    log.close()
    if checkpoints.newest_step() < step:
        sys.exit(
            f"the checkpoint of the last step, {step}, could not be written (see above); "
            f"the newest one is of step {checkpoints.newest_step()}"
        )
    if stop.reached:
        logging.info("SIGTERM: saved after step %d", step)


def _settle(config, pending, log, chips, state, checkpoints, source) -> None:
    """Looks at a finished step's numbers: reports skipped steps, stops after too many in a row."""
    step, metrics, info = pending
    in_row = int(metrics["skipped_in_row"])
    if not in_row:
        return
    terms = {name: str(float(value)) for name, value in metrics.items()}
    log.event(step, "skipped", in_row=in_row, terms=terms, ids=list(info.get("ids", ())))
    logging.warning("step %d was not finite and is skipped (%d in a row)", step, in_row)
    if in_row >= config.max_skipped_in_row:
        # Skipped steps changed no parameter. The step after this one may have run by now: the state
        # and the position in the data are saved under the state's own number.
        state = chips.host_view(state)
        checkpoints.save(int(state.step), state, source.get_state())
        checkpoints.close()
        log.close()
        raise NonFiniteError(
            f"{in_row} steps in a row were not finite, last step {step}; its terms: {terms}; "
            f"its examples: {info.get('ids')}; the newest checkpoint has the parameters from before"
        )


def _init_variables(
    config: ml_collections.ConfigDict, model: MVDust3r, network: ModelConfig
) -> dict:
    """Random weights by ``config.seed``, those of ``config.init_from`` in their place."""
    size = (1, 2, config.data.height, config.data.width, 3)
    init = jax.jit(functools.partial(model.init, num_refs=1, all_paths=True))
    variables = init(jax.random.key(config.seed), np.zeros(size, np.float32))
    if not config.init_from:
        return variables
    variables, origin = port.init_from(variables, load_source(config.init_from), network)
    logging.info("weights of %s: %s", config.init_from, origin)
    return variables


class _Preemption:
    """Tells after which step to save and end because of SIGTERM.

    Several processes must end after the same step, or those that go on would wait for the others
    forever. There jax catches the signal of any one of them and agrees on a step that none has
    passed.
    """

    def __init__(self):
        self.reached = False
        if jax.process_count() == 1:
            signal.signal(signal.SIGTERM, self._request)

    def _request(self, *_: Any) -> None:
        self.reached = True

    def after(self, step: int) -> bool:
        """Whether this step is the last one; all processes ask after each step."""
        if jax.process_count() > 1:
            self.reached = multihost_utils.reached_preemption_sync_point(step)
        return self.reached


class _Trace:
    """The profiler, running during those of ``steps`` that this run takes."""

    def __init__(self, folder: Path, steps: range):
        self._folder, self._steps, self._running = folder, steps, False

    def before(self, step: int) -> None:
        """Starts with the first step of the range that this run takes."""
        if step in self._steps and not self._running:
            jax.profiler.start_trace(str(self._folder))
            self._running = True

    def after(self, step: int, metrics: Any, last: bool) -> None:
        """Ends with the range or with the run."""
        if self._running and (last or step + 1 not in self._steps):
            jax.block_until_ready(metrics)
            jax.profiler.stop_trace()
            self._running = False


# --- Command line ---------------------------------------------------------------------------------

_CONFIG = config_flags.DEFINE_config_file("config", None, "Python file, e.g. configs/small_mvd.py")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints and metrics")
_PROFILE = flags.DEFINE_string("profile", "", "Steps to trace, FIRST:LAST; into WORKDIR/profile")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Several processes, found out from the cluster (TPU pods, SLURM)"
)
_COORDINATOR = flags.DEFINE_string("coordinator", "", "Several processes: HOST:PORT of the first")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", 1, "With --coordinator: how many")
_PROCESS_ID = flags.DEFINE_integer("process_id", 0, "With --coordinator: which one this is")
flags.mark_flags_as_required(["config", "workdir"])


def traced_steps(text: str) -> range:
    """``FIRST:LAST`` as the steps to trace, none for ''."""
    if not text:
        return range(0)
    match = re.fullmatch(r"(\d+):(\d+)", text)
    first, last = map(int, match.groups()) if match else (0, 0)
    if not 1 <= first <= last:
        raise app.UsageError(f"--profile must be FIRST:LAST with 1 <= FIRST <= LAST, got {text!r}")
    return range(first, last + 1)


def work_folder(text: str) -> Path:
    """The workdir; an address such as gs://BUCKET would become a folder of this host alone."""
    if "://" in text:
        raise app.UsageError(f"--workdir must be a folder, got {text!r}: mount the bucket as one")
    return Path(text)


def main(argv: list[str]) -> None:
    """Short on purpose."""
    logging.get_absl_handler().addFilter(lambda record: "orbax" not in record.pathname)
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; options start with --")
    workdir, profile = work_folder(_WORKDIR.value), traced_steps(_PROFILE.value)
    # Before anything else touches a device.
    if _COORDINATOR.value:
        jax.distributed.initialize(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    elif _DISTRIBUTED.value:
        jax.distributed.initialize()
    try:
        train(_CONFIG.value, workdir, profile)
    except NonFiniteError as error:
        sys.exit(str(error))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            sys.exit(f"{OUT_OF_MEMORY}\n\n{str(error)[:2000]}")
        raise


if __name__ == "__main__":
    app.run(main)
