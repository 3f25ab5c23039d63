"""A plan carried out: every method on every trajectory that has no record yet, then the report.

Each process takes every n-th trajectory and writes records of its own; an interrupted run goes on
behind its last record.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from mvdust3r_jax.evaluation import baselines, judge, records, report, summary
from mvdust3r_jax.evaluation.devices import Devices
from mvdust3r_jax.evaluation.estimate import Estimate
from mvdust3r_jax.evaluation.methods import METHODS, Job, Needs, Settings
from mvdust3r_jax.evaluation.plan import Plan, Round
from mvdust3r_jax.evaluation.records import Record
from mvdust3r_jax.evaluation.sets import EvalSet, batches_of, save_split
from mvdust3r_jax.metrics import lpips
from mvdust3r_jax.models.network import Network
from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.types import Batch

_waits = itertools.count()
# How long one process may be behind another (7 days); one that has died ends the wait in minutes.
_BEHIND_MS = 7 * 24 * 3600 * 1000


class Evaluation:
    """A plan on this process's devices, writing into ``workdir``."""

    def __init__(self, plan: Plan, workdir: Path, kept: Callable[[], Any] | None = None):
        """kept: called whenever records have been added."""
        self._kept = kept
        self.plan, self.workdir, self.devices = plan, workdir, Devices(plan.options.devices)
        self.perceptual = self.devices.place(lpips.load_weights(), spread=False)
        placed = {
            id(net): Network(net.config, self.devices.place(net.variables, spread=False))
            for net in plan.networks.values()
        }
        self.networks = {name: placed[id(net)] for name, net in plan.networks.items()}
        self.batch_size = plan.options.batch_per_device * self.devices.size
        self._means: dict[tuple[str, int], jax.Array] = {}

    def run(self) -> None:
        """Fills ``metrics.jsonl`` and ``times.jsonl`` with whatever they lack."""
        plan, workdir = self.plan, self.workdir
        for method, why in plan.skipped.items():
            logging.warning("method %s is skipped: %s", method, why)
        if jax.process_index() == 0:
            notes = {"labels": plan.labels, "skipped": plan.skipped}
            records.claim(workdir, plan.facts, plan.targets, notes)
        workdir.mkdir(parents=True, exist_ok=True)
        records.read(records.part_file(workdir, "times"))  # cuts off an unfinished line
        done = records.finished(workdir, records.part_file(workdir, "metrics"))
        for part in plan.rounds:
            if jax.process_index() == 0:
                path = workdir / "splits" / f"{part.data.name}_{part.num_inputs}.json"
                save_split(path, part.data.name, part.ids, part.data.split)
            self._run_round(part, done)

    def _run_round(self, part: Round, done: set[tuple]) -> None:
        """This process's share of one set at one number of views."""
        keys = [
            {"dataset": part.data.name, "views": part.num_inputs, "method": m}
            for m in self.plan.methods
        ]
        own = part.ids[jax.process_index() :: jax.process_count()]
        todo = [i for i in own if any((*k.values(), i) not in done for k in keys)]
        warm: set[str] = set()
        batches = batches_of(part.data, todo, part.num_inputs, part.num_targets, self.batch_size)
        for ids, batch in batches:
            batch = self.devices.place(batch, spread=True)
            for key in keys:
                new = [(*key.values(), i) not in done for i in ids]
                if not any(new):
                    continue
                rows, timing = self.one(key, ids, batch)
                timing["warm_up"] = key["method"] not in warm
                warm.add(key["method"])
                metrics = records.part_file(self.workdir, "metrics")
                records.append(metrics, itertools.compress(rows, new))
                records.append(records.part_file(self.workdir, "times"), [key | timing])
            if self._kept is not None:
                self._kept()

    def one(self, key: Record, ids: list[str], batch: Batch) -> tuple[list[Record], Record]:
        """Records and times of one method on one batch."""
        job = self.job(key, batch)
        estimate = METHODS[key["method"]].estimate(job)
        numbers, seconds = judge.numbers_of(
            self.devices,
            estimate,
            batch,
            chamfer=self.plan.options.chamfer,
            perceptual=self.perceptual,
            network=job.network,
        )
        logging.info("%s %s: ND %.3f", " ".join(map(str, key.values())), ids[0], numbers["nd"][0])
        timing = {
            "scenes": len(ids),
            "seconds": {k: v / self.batch_size for k, v in (job.seconds | seconds).items()},
            "compile_s": {k: v for k, v in job.compile_s.items() if v},
        }
        return list(records.records_of(key, ids, numbers)), timing

    def job(self, key: Record, batch: Batch) -> Job:
        """One method's work on a batch that lies on the devices."""
        settings = self._settings(key["method"], key["dataset"], key["views"])
        return Job(self.devices, batch, settings, self.networks.get(key["method"]))

    def answer_one(self, data: EvalSet, key: Record, num_targets: int, scene: str):
        """(job, estimate) of one scene again, as for its record."""
        batch = data.load([scene] * self.batch_size, key["views"], num_targets)
        job = self.job(key, self.devices.place(batch, spread=True))
        estimate: Estimate = METHODS[key["method"]].estimate(job)
        return job, estimate

    def _settings(self, method: str, data: str, num_inputs: int) -> Settings:
        """What the method needs; the mean of a training set is made when first asked for."""
        options = self.plan.options
        settings = options.settings(num_inputs)
        if METHODS[method].needs is not Needs.TRAINING_MEAN:
            return settings
        key = data, num_inputs
        if key not in self._means:
            training = self.plan.training[data]
            mean = mean_of(
                self.devices, training, num_inputs, options.mean_samples, self.batch_size
            )
            self._means[key] = self.devices.place(mean, spread=False)
        return dataclasses.replace(settings, mean=self._means[key])


def mean_of(
    devices: Devices, data: EvalSet, num_inputs: int, samples: int, batch_size: int
) -> np.ndarray:
    """Mean pointmaps [V, H, W, 3] of the first ``samples`` trajectories of a set."""
    ids = list(data.ids(num_inputs, 0))[:samples]
    total, count = 0.0, 0.0
    for chunk, batch in batches_of(data, ids, num_inputs, 0, batch_size):
        batch = devices.place(batch, spread=True)
        sums = devices.run(baselines.pointmap_sums, (batch,), num_inputs=num_inputs).result
        points, known = (np.asarray(x, np.float64)[: len(chunk)].sum(0) for x in sums)
        total, count = total + points, count + known
    return baselines.mean_pointmaps(total, count)


def write_report(workdir: Path, plan: Plan) -> str:
    """Summary and tables from the records of all processes; returns the table."""
    metrics, times = (records.all_records(workdir, stem) for stem in ("metrics", "times"))
    knowing = [method.name for method in METHODS.values() if method.knows_truth]
    planned = {(*where, m): ids for where, ids in plan.ids.items() for m in plan.methods}
    rows = summary.summarize(metrics, times, knowing, planned)
    with whole_file(workdir / "summary.json") as partial:
        partial.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    facts = records.run_facts(workdir)
    return report.write_tables(
        workdir, rows, labels=facts.get("labels", {}), skipped=facts.get("skipped", {})
    )


def empty_rounds(workdir: Path, plan: Plan) -> list[str]:
    """The rounds of which no method has any record, in words."""
    found = {(r["dataset"], r["views"]) for r in records.all_records(workdir, "metrics")}
    return [f"{name} at {views} views" for name, views in plan.ids if (name, views) not in found]


def wait_for_all() -> None:
    """Until all processes have come this far.

    No collective does: they must begin the first one within 30 seconds of each other (CPU), and
    none may take longer than half an hour.
    """
    wait = ocp.multihost.get_barrier_sync_fn()
    wait(key=f"evaluation {next(_waits)}", timeout_ms=_BEHIND_MS)
