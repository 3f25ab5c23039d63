"""Evaluation: data sets x numbers of views x methods -> numbers per scene, tables and plots.

    python eval.py --config configs/eval_rooms.py --weights WEIGHTS --workdir DIR

Any field of the config can be set on the command line, as in ``--config.views=4,8``.

Writes ``metrics.jsonl`` (one line per scene; the same bytes in every run), ``times.jsonl``,
``summary.json``, ``table.md``, ``table_release.md``, ``table.csv``, ``splits/`` and ``plots/``.
Started again with the same workdir it goes on behind the last finished scene. docs/evaluation.md
says what every number means.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import ml_collections
from absl import flags, logging

from configs import build, eval_defaults
from configs import flags as common_flags
from data.eval_sets import make_eval_set
from data.stored.made_from import digest as data_digest
from mvdust3r_jax.evaluation import devices, pictures, plots
from mvdust3r_jax.evaluation.plan import (
    Plan,
    check_methods,
    listed,
    make_plan,
    view_counts,
)
from mvdust3r_jax.evaluation.records import check_ids, check_no_training, check_same_run
from mvdust3r_jax.evaluation.runner import Evaluation, empty_rounds, wait_for_all, write_report
from mvdust3r_jax.evaluation.sets import EvalSet, ids_digest, read_split
from mvdust3r_jax.metrics import lpips
from mvdust3r_jax.models.network import Network
from mvdust3r_jax.storage.places import Mirror, is_remote
from mvdust3r_jax.training.one_run import alone_in
from mvdust3r_jax.training.processes import set_up
from mvdust3r_jax.weights.files import digest, load_weights
from mvdust3r_jax.weights.places import find_weights

# Fields that a continued evaluation may change: they decide how much is done, and how fast.
MAY_CHANGE = ("methods", "views", "num_targets", "pictures", "devices", "batch_per_device")


def load_network(path: str, dtype: str) -> Network | None:
    """The network of a weight file; ``dtype`` of its matrix products, '' as trained."""
    if not path:
        return None
    config, variables = load_weights(find_weights(path))
    return Network(dataclasses.replace(config, dtype=dtype) if dtype else config, variables)


def data_sets(config: ml_collections.ConfigDict, **changes: Any) -> dict[str, EvalSet]:
    """The data sets by name, with some of their fields changed."""
    fields = {name: c.to_dict() | changes for name, c in config.datasets.items()}
    return {name: make_eval_set(name, **given) for name, given in fields.items()}


def training_sets(config: ml_collections.ConfigDict) -> dict[str, EvalSet]:
    """What 'mean' averages over: as many, however many are evaluated of the other split."""
    return data_sets(config, split="train", split_file="", count=config.mean_samples)


def facts_of(config: ml_collections.ConfigDict, weights: str) -> dict[str, Any]:
    """What tells this evaluation from another one: settings, and what files that they name hold."""
    settings = json.loads(config.to_json())
    facts = {name: value for name, value in settings.items() if name not in MAY_CHANGE}
    facts |= {"weights": weights and digest(find_weights(weights)), "lpips": lpips.available()}
    stored = {name: c.folder for name, c in config.datasets.items() if c.source == "records"}
    if stored:
        facts["data"] = {name: data_digest(folder) for name, folder in stored.items()}
    files = {name: c.split_file for name, c in config.datasets.items() if c.get("split_file")}
    if files:
        facts["split_ids"] = {name: ids_digest(read_split(Path(f))) for name, f in files.items()}
    if config.pairwise_weights:
        facts["pairwise_weights"] = digest(find_weights(config.pairwise_weights))
    return facts


def plan_of(config: ml_collections.ConfigDict, weights: str) -> Plan:
    """Reads weights and data sets, and checks everything before anything is computed or written."""
    eval_defaults.check(config)
    options = build.evaluation_options(config)
    methods, counts = listed(config.methods), view_counts(config.views, config.num_targets)
    check_methods(methods, bool(weights))
    plan = make_plan(
        methods,
        list(data_sets(config).values()),
        counts,
        network=load_network(weights, config.dtype),
        pairs=load_network(config.pairwise_weights, config.dtype),
        training=training_sets(config) if "mean" in methods else {},
        options=options,
        facts=facts_of(config, weights),
    )
    devices.check_count(options.devices)
    return plan


def evaluate(plan: Plan, workdir: Path, mirror: Mirror | None = None) -> None:
    """Computes, reports and draws; ``mirror``: what brings ``workdir`` into a bucket."""
    evaluation = Evaluation(plan, workdir, mirror and functools.partial(_push, mirror))
    evaluation.run()
    if mirror:
        mirror.push()
    wait_for_all()
    if mirror:
        mirror.pull()
    if jax.process_index() == 0:
        print(write_report(workdir, plan))
        if plots.available():
            pictures.draw_curves(workdir)
            pictures.draw_extremes(evaluation)
        else:
            logging.warning("no plots: matplotlib is not installed (pip install matplotlib)")
    if mirror:
        mirror.push()
    # Processes that have ended make JAX end one that still reports after five minutes.
    wait_for_all()


def _push(mirror: Mirror) -> None:
    """Brings records into the bucket; while it is away they wait here."""
    try:
        mirror.push(force=False)
    except OSError as error:
        logging.warning("records could not be copied, which is tried again: %s", error)


def define_flags() -> None:
    """Called when run as a program only, so that other programs can import this file."""
    common_flags.define(
        config="What to evaluate, e.g. configs/eval_rooms.py",
        workdir="Folder for the results; one begun before is continued",
    )
    told = "Weight file, the workdir of a training run, or a published name (MVDp_s2)"
    flags.DEFINE_string("weights", "", told)


def main(options: Any) -> None:
    """Checks, then evaluates; an error where nothing of a round could be evaluated."""
    common_flags.start_processes(options)
    mirror, alone = None, ExitStack()
    try:
        with set_up("evaluation"):
            workdir = common_flags.work_folder(options.workdir)
            check_no_training(workdir)
            if is_remote(workdir):
                mirror = Mirror(workdir)
                mirror.pull()
                workdir = mirror.local
            plan = plan_of(options.config, options.weights)
            check_same_run(workdir, plan.facts, plan.targets)
            check_ids(workdir, plan.ids)
        if not mirror:
            alone.enter_context(alone_in(workdir))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    with alone:
        evaluate(plan, workdir, mirror)
    empty = empty_rounds(workdir, plan) if jax.process_index() == 0 else []
    if mirror:
        mirror.close()
    if empty:
        sys.exit(f"error: {options.workdir} has no record of any trajectory of {', '.join(empty)}")


if __name__ == "__main__":
    define_flags()
    common_flags.run(main)
