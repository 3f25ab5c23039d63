"""Training: one loop, from a configuration to checkpoints.

    python train.py --config configs/small_mvd.py --workdir DIR [--config.peak_lr=1e-3 ...]

Started again with the same workdir it goes on where the newest readable checkpoint stands, bit for
bit as if it had never stopped (on CPU). SIGTERM (with several processes: to any of them) saves and
exits with 75. docs/training.md explains the fields and exit codes, docs/tpu_pods.md several
machines.
"""

from __future__ import annotations

import functools
import sys
import time
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import flags, logging

from configs import build
from configs import flags as common_flags
from data.device_prefetch import DevicePrefetch
from data.training_batches import make_source
from mvdust3r_jax import ModelConfig, MVDust3r
from mvdust3r_jax.metrics import lpips
from mvdust3r_jax.training import processes
from mvdust3r_jax.training.changed_settings import as_text, changed_settings, not_free
from mvdust3r_jax.training.checkpoint import Checkpoints, Restored
from mvdust3r_jax.training.metric_log import (
    CompileCounter,
    MetricLog,
    Progress,
    interval_means,
)
from mvdust3r_jax.training.preemption import Preemption
from mvdust3r_jax.training.progress_pictures import contact_sheet
from mvdust3r_jax.training.run import Run, make_run, spread_by
from mvdust3r_jax.training.trace import Trace, traced_steps
from mvdust3r_jax.training.watchdog import Watchdog
from mvdust3r_jax.weights import port
from mvdust3r_jax.weights.files import load_source
from mvdust3r_jax.weights.places import find_weights

# Exit codes; watchdog.STALLED is another, and Python's own for an error is FAILED.
FINISHED, FAILED, INTERRUPTED = 0, 1, 75
OUT_OF_MEMORY = (
    "The device ran out of memory. In this order, try: a smaller config.data.batch_size, or the "
    "same one in parts (config.accumulation); config.remat='full'; config.dtype='bfloat16'; fewer "
    "config.data.num_inputs; config.loss.render_views and render_paths; config.parallel='fsdp'."
)


class NonFiniteError(FloatingPointError):
    """Too many steps in a row whose loss or gradient was not finite."""


# --- Set-up ---------------------------------------------------------------------------------------


def open_source(config: ml_collections.ConfigDict, **overrides: Any):
    """This process's share of the batches that ``config.data`` describes."""
    settings = build.data_settings(config, **overrides)
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


def compare_settings(
    restored: Restored, config: ml_collections.ConfigDict, allow_changes: bool
) -> dict[str, tuple[Any, Any]]:
    """Tells what differs from the checkpoint's config; an error where it must be allowed first."""
    changes = changed_settings(restored.meta["config"], config.to_json_best_effort())
    if changes:
        logging.warning("other settings than before: %s", as_text(changes))
    heavy = {name: changes[name] for name in not_free(changes)}
    if heavy and not allow_changes:
        raise processes.RunError(
            f"since step {restored.step} settings were changed that say what this run's numbers "
            f"mean: {as_text(heavy)}. Give --allow_changes to go on, or another workdir (with "
            "init_from, if need be)"
        )
    return changes


def prepare(config: ml_collections.ConfigDict) -> tuple[ModelConfig, Run]:
    """The network, and everything of it that runs on the chips."""
    network, optimizer, objective, step = build.parts(config)
    model = MVDust3r(network)
    run = make_run(
        model,
        init_variables(config, model),
        optimizer,
        objective,
        step,
        spread=spread_by(config.parallel, config.mesh),
        perceptual=lpips.load_weights() if config.loss.lpips else None,
        seed=config.seed,
    )
    return network, run


def init_variables(config: ml_collections.ConfigDict, model: MVDust3r) -> dict:
    """Random weights by ``config.seed``, those of ``config.init_from`` in their place."""
    size = (1, 2, config.data.height, config.data.width, 3)
    init = jax.jit(functools.partial(model.init, num_refs=1, all_paths=True))
    variables = init(jax.random.key(config.seed), np.zeros(size, np.float32))
    if not config.init_from:
        return variables
    source = load_source(find_weights(config.init_from))
    variables, origin = port.init_from(variables, source, model.config)
    logging.info("weights of %s: %s", config.init_from, origin)
    return variables


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


def train(
    config: ml_collections.ConfigDict,
    workdir: Path,
    profile: range = range(0),
    allow_changes: bool = False,
) -> int:
    """Runs to ``stop_step`` (or ``total_steps``), or until SIGTERM.

    profile: steps that are traced. allow_changes: go on although settings differ from those of the
    checkpoint. Returns ``FINISHED`` or ``INTERRUPTED``, the exit code.
    """
    build.check(config)
    processes.check_shared_folder(workdir)
    with Watchdog(60 * config.stall_minutes) as watchdog:
        return _train(config, workdir, profile, allow_changes, watchdog)


def _train(
    config: ml_collections.ConfigDict,
    workdir: Path,
    profile: range,
    allow_changes: bool,
    watchdog: Watchdog,
) -> int:
    """The loop itself."""
    stop, compiles, trace = Preemption(), CompileCounter(), Trace(workdir / "profile", profile)
    logging.info("devices: %s", jax.devices())

    # Model and state
    network, run = prepare(config)
    chips = run.chips

    # Data, and where an earlier run of this workdir stopped
    source = open_source(config)
    check_eval_sources(config)
    checkpoints = Checkpoints(
        workdir,
        network,
        config.to_json_best_effort(),
        keep=config.keep_checkpoints,
        limit_s=60 * config.save_minutes,
    )
    restored = checkpoints.restore(chips.abstract(run.state))
    first_step, state, changes = 0, run.state, {}
    if restored is not None:
        first_step, state = restored.step, restored.state
        changes = compare_settings(restored, config, allow_changes)
        source.set_state(restored.data_state)
        logging.info("going on after step %d", first_step)
    state = chips.put_state(state)
    del restored
    run = run.replace(state=None)
    source = DevicePrefetch(source, chips.put_batch, depth=config.data.prefetch)

    log = MetricLog(
        workdir, first_step, tensorboard=config.tensorboard, active=jax.process_index() == 0
    )
    if changes:
        log.event(first_step, "changed", settings=changes)
    end = config.stop_step or config.total_steps
    progress = Progress(first_step, end)
    pending, compiled, step, recent = None, compiles.count, first_step, []

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
        started = time.perf_counter()
        state, metrics = run.step(state, batch)
        progress.exclude(time.perf_counter() - started if compiles.count > compiled else 0.0)
        recent += [metrics] if config.log_every else []
        if pending is not None:
            _settle(config, pending, log, chips, state, checkpoints, source)
            watchdog.alive()
        pending = (step, metrics, info)

        last = stop.after(step) or step == end
        trace.after(step, metrics, last)
        if compiles.count > compiled:
            compiled = compiles.count
            shape = list(batch.images.shape)
            log.event(step, "compile", count=compiled, seconds=compiles.seconds, images=shape)
        if due(config.log_every, step):
            numbers = interval_means(recent) | progress.report(step)
            recent.clear()
            log.scalars(step, numbers)
            logging.info(
                "step %d  loss %.4f  %.3f s/step  %.1f examples/s  input %.1f %%  %.0f s left",
                *(step, numbers["loss"], numbers["step_time_s"], numbers["examples_per_s"]),
                *(100 * numbers["input_wait_share"], numbers["eta_s"]),
            )

        # Evaluation, pictures and checkpoints
        if due(config.eval_every, step):
            jax.block_until_ready(metrics)
            with progress.aside():
                _judge(config, run, state, step, log, checkpoints, source, watchdog)
        if due(config.checkpoint_every, step) or last:
            _settle(config, pending, log, chips, state, checkpoints, source)
            pending = None
            position = source.get_state()
            with watchdog.paused(), progress.aside():
                saved = checkpoints.save(step, chips.host_view(state), position)
            log.event(step, "checkpoint", saved=saved)
        if last:
            break

    with watchdog.paused():
        checkpoints.close()
    log.close()
    newest_step = checkpoints.newest_step()
    if newest_step < step:
        raise processes.RunError(
            f"the checkpoint of the last step, {step}, could not be written (see above); "
            f"the newest one is of step {newest_step}"
        )
    if stop.reached:
        logging.info("SIGTERM: saved after step %d", step)
    return INTERRUPTED if stop.reached else FINISHED


def _judge(config, run, state, step, log, checkpoints, source, watchdog) -> None:
    """Evaluates on every set of ``config.eval``, draws pictures, keeps the best state."""
    judged, chips = None, run.chips
    for name, overrides in config.eval.items():
        results, example = evaluate(config, run, state, overrides.to_dict())
        judged = results[config.best_metric] if judged is None else judged
        watchdog.alive()
        log.scalars(step, results, kind=f"eval_{name}")
        logging.info("eval %s at step %d: %s", name, step, results)
        if config.pictures_every > 0 and step % config.pictures_every == 0:
            rows = jax.device_get(run.pictures(state, chips.put_batch(example)))
            log.pictures(step, {name: contact_sheet(rows)})
    view, position = functools.partial(chips.host_view, state), source.get_state()
    with watchdog.paused():
        checkpoints.save_if_best(step, view, position, config.best_metric, judged)


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


# --- Command line ---------------------------------------------------------------------------------


def define_flags() -> None:
    """Called when run as a program only, so that other programs can import this file."""
    common_flags.define(
        config="Python file, e.g. configs/small_mvd.py",
        workdir="Folder for checkpoints and metrics",
    )
    flags.DEFINE_string("profile", "", "Steps to trace, FIRST:LAST; into WORKDIR/profile")
    flags.DEFINE_bool(
        "allow_changes", False, "Resume although data, seed, loss, network or schedule were changed"
    )


def main(options: Any) -> int:
    """Checks, then trains; gives the exit code."""
    logging.get_absl_handler().addFilter(lambda record: "orbax" not in record.pathname)
    try:
        workdir = common_flags.work_folder(options.workdir)
        profile = traced_steps(options.profile)
        build.check(options.config)
    except ValueError as error:
        sys.exit(f"error: {error}")
    common_flags.start_processes(options)
    try:
        return train(options.config, workdir, profile, options.allow_changes)
    except (NonFiniteError, processes.RunError) as error:
        sys.exit(f"error: {error}")
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            sys.exit(f"{OUT_OF_MEMORY}\n\n{str(error)[:2000]}")
        raise


if __name__ == "__main__":
    define_flags()
    common_flags.run(main)
