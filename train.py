"""Training: one loop, from a configuration to checkpoints.

    python train.py --config configs/small_mvd.py --workdir DIR [--config.peak_lr=1e-3 ...]

Started again with the same workdir it goes on where the newest readable checkpoint stands, bit for
bit as if it had never stopped (on CPU). SIGTERM, SIGUSR1, SIGUSR2 or Ctrl-C (with several
processes: to any of them) saves and exits with 75. docs/training.md explains fields and exit codes,
docs/tpu_pods.md several machines.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags, logging
from ml_collections import ConfigDict

from configs import build
from configs import flags as common_flags
from data.device_prefetch import DevicePrefetch
from data.training_batches import Source, make_source
from mvdust3r_jax import MVDust3r
from mvdust3r_jax.models.mvdust3r import abstract_variables
from mvdust3r_jax.training import alike, endings
from mvdust3r_jax.training.checkpoint import Checkpoints
from mvdust3r_jax.training.initial import initial_variables, warn_of_known_rooms
from mvdust3r_jax.training.judge import Judge, OpenSet, check_sets
from mvdust3r_jax.training.keeper import Keeper
from mvdust3r_jax.training.left_out import LeftOut
from mvdust3r_jax.training.metric_log import MetricLog
from mvdust3r_jax.training.one_run import alone_in, check_no_evaluation
from mvdust3r_jax.training.preemption import Preemption
from mvdust3r_jax.training.processes import check_shared_folder, connect, set_up
from mvdust3r_jax.training.progress import CompileCounter, Report, due
from mvdust3r_jax.training.rates import Cost
from mvdust3r_jax.training.resume import resume
from mvdust3r_jax.training.run import Run, make_run, watched
from mvdust3r_jax.training.skipped import NonFiniteError, SkippedSteps
from mvdust3r_jax.training.trace import Trace, serve_profiler, traced_steps
from mvdust3r_jax.training.watchdog import Watchdog

# Exit codes; watchdog.STALLED is another, and Python's own for an error is 1.
FINISHED, INTERRUPTED = 0, 75


# --- Set-up ---------------------------------------------------------------------------------------


def open_data(config: ConfigDict) -> tuple[Source, dict[str, OpenSet], dict[str, Any]]:
    """This process's share of what the run trains on, and of each set that it evaluates on.

    The last result is what each of these sets is made of.

    Raises:
      RunError: data that cannot be used, shared by the devices, or that differ by process.
    """
    with set_up("data"):
        index, count = build.chips(config).share()
        opened = functools.partial(make_source, process_index=index, process_count=count)
        build.check_shares(config, jax.device_count())
        source = opened(**build.data_settings(config))
        held_out = build.eval_settings(config).items()
        sets = {name: functools.partial(opened, **settings) for name, settings in held_out}
        made_of = check_sets(sets)
    alike.check_data(source, made_of)
    return source, sets, made_of


def prepare(config: ConfigDict, fresh: bool = True) -> Run:
    """Everything that runs on the chips.

    fresh: make the first state too; otherwise a checkpoint brings it, and only shapes are known.
    """
    spread = build.chips(config)
    model = MVDust3r(spread.network(build.network(config)))
    variables = abstract_variables(model.config)
    if fresh:
        size = {"height": config.data.height, "width": config.data.width}
        variables = initial_variables(model, **size, seed=config.seed, init_from=config.init_from)
        warn_of_known_rooms(config.init_from, config.data.to_dict())
    recipe = build.recipe(config, model, variables["params"], spread)
    return make_run(recipe, variables, config.seed)


def _is_judged(config: ConfigDict, step: int) -> bool:
    """Whether the state behind this step is evaluated: every so many steps, and the last one."""
    last = step == (config.stop_step or config.total_steps)
    return due(config.eval_every, step) or (last and config.eval_every > 0)


def _judged_again(config: ConfigDict, first_step: int) -> bool:
    """The run may have been killed between saving this step and evaluating it."""
    return first_step > 0 and _is_judged(config, first_step)


def _checkpoints(config: ConfigDict, workdir: Path, settings: str, sets: dict) -> Checkpoints:
    return Checkpoints(
        *(workdir, build.network(config), settings),
        sets=sets,
        keep=config.keep_checkpoints,
        milestone_every=config.milestone_every,
        limit_s=60 * config.save_minutes,
    )


def _open_log(
    config: ConfigDict, workdir: Path, first_step: int, changes: dict[str, Any]
) -> MetricLog:
    """The log, which tells the settings that were changed before it goes on."""
    log = MetricLog(
        workdir,
        first_step,
        tensorboard=config.tensorboard,
        active=jax.process_index() == 0,
        judged_again=_judged_again(config, first_step),
    )
    if changes:
        log.event(first_step, "changed", settings=changes)
    return log


# --- The loop -------------------------------------------------------------------------------------


class Observers(NamedTuple):
    """Who looks at the loop's steps, keeps their states, or ends it."""

    log: MetricLog
    report: Report
    skipped: SkippedSteps
    left_out: LeftOut
    keeper: Keeper
    trace: Trace
    watchdog: Watchdog
    stop: Preemption


def _loop(
    config: ConfigDict,
    run: Run,
    state: Any,
    source: DevicePrefetch,
    first_step: int,
    end: int,
    observers: Observers,
) -> int:
    """Steps from behind ``first_step`` to ``end``; gives the number of the last one made."""
    log, report, skipped, left_out, keeper, trace, watchdog, stop = observers
    step = first_step
    try:
        if _judged_again(config, step):
            keeper.best(step, state)
        for step in range(first_step + 1, end + 1):
            trace.before(step)

            # Input: batches wait on the chips already
            with report.waiting():
                batch, info = next(source)

            # Step; the numbers of the one before are looked at while this one runs
            with report.stepping():
                state, metrics = run.step(state, batch)
            skipped.look()
            watchdog.alive()
            skipped.keep(step, metrics, info)
            leaving = stop.after(step)
            last = leaving or step == end
            trace.after(step, metrics, last)
            samples = len(info["ids"]) * run.chips.share()[1]
            report.after(step, metrics, samples, batch.images.shape, last=last)
            left_out.after(step, samples, info)

            # The newest state; evaluation, which may fail, comes behind it
            if due(config.checkpoint_every, step) or last:
                skipped.look()
                with report.aside():
                    keeper.newest(step, state)

            # Evaluation, pictures and the best state; who is sent away does it when it goes on
            if _is_judged(config, step) and not leaving:
                jax.block_until_ready(metrics)
                with report.aside():
                    keeper.best(step, state)
            if last:
                break
    except Exception as error:
        # All processes save together: of several, one that fails alone would wait for the others.
        # Steps that are not finite fail in all of them, and have changed no parameter.
        if isinstance(error, NonFiniteError) or jax.process_count() == 1:
            keeper.before_error(state)
            log.close()
        raise
    return step


# --- A run ----------------------------------------------------------------------------------------


def _train(
    config: ConfigDict,
    workdir: Path,
    profile: range,
    allow_changes: bool,
    watchdog: Watchdog,
    stop: Preemption,
) -> int:
    """What stands around the loop: data, network and observers before it, the last save behind."""
    compiles, trace = CompileCounter(), Trace(workdir / "profile", profile)
    logging.info("devices: %s", jax.devices())
    settings = config.to_json_best_effort()

    # Data: what is wrong with it is told before anything is compiled
    source, held_out, made_of = open_data(config)

    # Network, and where an earlier run of this workdir stopped
    with set_up("checkpoints"):
        checkpoints = _checkpoints(config, workdir, settings, made_of)
        fresh = not checkpoints.newest_step()
    with set_up("network"):
        run = prepare(config, fresh)
    if fresh:
        alike.check_weights(run.state)
    chips, state, run = run.chips, run.state, watched(run, watchdog)
    with set_up("newest checkpoint"):
        begun = resume(checkpoints, chips, state, source, settings, allow_changes)
    first_step, state, changes = begun

    # What is told, and what is kept
    with set_up("metrics"):
        log = _open_log(config, workdir, first_step, changes)
    end = config.stop_step or config.total_steps
    if first_step >= end:
        logging.info("nothing is left to do: step %d is saved, the last one is %d", first_step, end)
    report = Report(
        log,
        compiles,
        first_step=first_step,
        last_step=end,
        every=config.log_every,
        cost=Cost(build.network(config), config.num_refs, config.data.num_targets),
    )
    skipped = SkippedSteps(log, config.max_skipped_in_row)
    seen = source.get_state().get("sample", 0)
    left_out = LeftOut(log, source.epoch_samples, seen, first_step)
    source = DevicePrefetch(source, chips.put_batch, depth=config.data.prefetch)
    judge = Judge(run, log, held_out, batches=config.eval_batches, after_each=watchdog.alive)
    keeper = Keeper(
        *(checkpoints, chips, source, judge, log, watchdog),
        metric=config.best_metric,
        pictures_every=config.pictures_every,
    )
    observers = Observers(log, report, skipped, left_out, keeper, trace, watchdog, stop)
    # The first step gives the state's memory away: that it still has a name here costs nothing
    step = _loop(config, run, state, source, first_step, end, observers)

    keeper.close()
    log.close()
    checkpoints.check_saved(step)
    if stop.reached:
        logging.info("interrupted: saved after step %d", step)
    return INTERRUPTED if stop.reached else FINISHED


def train(
    config: ConfigDict,
    workdir: Path,
    profile: range = range(0),
    allow_changes: bool = False,
) -> int:
    """Runs to ``stop_step`` (or ``total_steps``), or until SIGTERM or Ctrl-C.

    profile: steps that are traced. allow_changes: go on although settings differ from those of the
    checkpoint. Returns ``FINISHED`` or ``INTERRUPTED``, the exit code.
    """
    connect()
    with set_up("settings"):
        build.check(config)
    alike.check_settings(config.to_json_best_effort(), allow_changes=allow_changes)
    check_shared_folder(workdir)
    with set_up("workdir"):
        check_no_evaluation(workdir)
    watchdog, stop = Watchdog(60 * config.stall_minutes), Preemption()
    with alone_in(workdir), watchdog, stop:
        return _train(config, workdir, profile, allow_changes, watchdog, stop)


# --- Command line ---------------------------------------------------------------------------------


def define_flags() -> None:
    """Called when run as a program only, so that other programs can import this file."""
    common_flags.define(
        config="Python file, e.g. configs/small_mvd.py",
        workdir="Folder for checkpoints and metrics",
    )
    flags.DEFINE_string("profile", "", "Steps to trace, FIRST:LAST; into WORKDIR/profile")
    flags.DEFINE_integer("profiler_port", 0, "Serves the profiler on this port (and the next ones)")
    flags.DEFINE_bool(
        "allow_changes", False, "Resume although data, seed, loss, network or schedule were changed"
    )


def main(options: Any) -> int:
    """Checks, then trains; gives the exit code."""
    logging.get_absl_handler().addFilter(lambda record: "orbax" not in record.pathname)
    try:
        common_flags.start_processes(options)
        with set_up("command line"):
            workdir = common_flags.work_folder(options.workdir)
            profile = traced_steps(options.profile)
            serve_profiler(options.profiler_port)
        return train(options.config, workdir, profile, options.allow_changes)
    except Exception as error:
        sys.exit(endings.reason(error))


if __name__ == "__main__":
    define_flags()
    common_flags.run(main)
