"""Evaluation: data sets x numbers of views x methods -> numbers per scene, tables and plots.

    python eval.py --config configs/eval_rooms.py --weights WEIGHTS --workdir DIR

Any field of the config can be set on the command line, as in ``--config.views=4,8``.

Writes ``metrics.jsonl`` (one line per scene; the same bytes in every run), ``times.jsonl``,
``summary.json``, ``table.md``, ``table_release.md``, ``splits/`` and ``plots/``. Started again with
the same workdir it goes on behind the last finished scene. docs/evaluation.md says what every
number means.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging
from jax.experimental import multihost_utils
from ml_collections import config_flags

from data.eval_sets import EvalSet, make_eval_set, save_split
from data.stored.schema import CorruptRecord
from mvdust3r_jax.evaluation import plots as eval_plots
from mvdust3r_jax.evaluation import report as eval_report
from mvdust3r_jax.evaluation import scores
from mvdust3r_jax.evaluation.methods import (
    BASELINES,
    NETWORKS,
    Devices,
    Network,
    Settings,
    answer,
    novel_images,
    numbers_of,
)
from mvdust3r_jax.metrics import lpips
from mvdust3r_jax.pairwise.alignment_start import scene_graph
from mvdust3r_jax.types import Batch
from mvdust3r_jax.weights.files import digest, load_weights

# --- Plan and its checks, before anything is computed ---------------------------------------------


def check_methods(methods: tuple[str, ...], networks: dict[str, Network]) -> None:
    """ValueError for methods that do not exist or that the given weights cannot serve."""
    for method in methods:
        if method not in BASELINES + NETWORKS:
            raise ValueError(f"methods must be among {BASELINES + NETWORKS}, got {method!r}")
        if method in NETWORKS and method not in networks:
            raise ValueError(f"method {method!r} needs --weights")
        if method in ("mvdp", "mvdp_best") and not networks[method].config.cross_ref:
            raise ValueError(
                f"method {method!r} needs weights of a variant with cross-reference blocks (mvdp, "
                "small, tiny, ...); these have none: evaluate them as 'mvd'"
            )


def check_size(name: str, dataset: dict, networks: dict[str, Network]) -> None:
    """ValueError for images that a network cannot take or that metrics have no window for."""
    size = dataset["height"], dataset["width"]
    for method, network in networks.items():
        patch = network.config.patch
        if any(pixels % patch for pixels in size):
            raise ValueError(
                f"{name}: images of {size[0]}x{size[1]} cannot be cut into patches of "
                f"{patch}x{patch}, which method {method!r} needs"
            )


def load_networks(config, weights: str) -> dict[str, Network]:
    """The network of each method that needs one."""
    wanted = [m for m in listed(config.methods) if m in NETWORKS]
    if not wanted or not weights:
        return {}
    model, variables = load_weights(weights)
    networks = dict.fromkeys(wanted, Network(model, variables))
    if "pairwise" in wanted and config.pairwise_weights:
        networks["pairwise"] = Network(*load_weights(config.pairwise_weights))
    if config.dtype:
        networks = {
            name: Network(dataclasses.replace(net.config, dtype=config.dtype), net.variables)
            for name, net in networks.items()
        }
    return networks


def listed(text: str) -> tuple[str, ...]:
    """The entries of a comma-separated list."""
    return tuple(entry.strip() for entry in text.split(",") if entry.strip())


def view_counts(config) -> list[tuple[int, int]]:
    """(input views, render-only views) of each round."""
    views, targets = ([int(v) for v in listed(x)] for x in (config.views, config.num_targets))
    targets = targets * len(views) if len(targets) == 1 else targets
    if len(views) > len(targets):
        raise ValueError(f"{len(views)} entries in views, but num_targets has {len(targets)}")
    if min(views) < 2:
        raise ValueError(f"a network needs at least 2 views, got views = {views}")
    return list(zip(views, targets, strict=False))


# --- The loop -------------------------------------------------------------------------------------


def batches_of(data: EvalSet, ids: list[str], num_inputs: int, num_targets: int, size: int):
    """(ids, Batch) with exactly ``size`` samples; the last one is filled by repetition.

    Trajectories with a frame that cannot be read are named and left out.
    """
    for start in range(0, len(ids), size):
        chunk = list(ids[start : start + size])
        try:
            yield chunk, data.load(_filled(chunk, size), num_inputs, num_targets)
        except CorruptRecord:
            chunk = [i for i in chunk if _readable(data, i, num_inputs, num_targets)]
            if chunk:
                yield chunk, data.load(_filled(chunk, size), num_inputs, num_targets)


def _filled(chunk: list[str], size: int) -> list[str]:
    return chunk + [chunk[-1]] * (size - len(chunk))


def _readable(data: EvalSet, name: str, num_inputs: int, num_targets: int) -> bool:
    try:
        data.load([name], num_inputs, num_targets)
    except CorruptRecord as error:
        logging.warning("%s: %s is left out: %s", data.name, name, error)
        return False
    return True


def records_of(key: dict, ids: list[str], numbers: dict[str, np.ndarray]) -> Iterator[dict]:
    """One record per id; padding is left out."""
    for i, name in enumerate(ids):
        values = {k: eval_report.encode(float(v[i])) for k, v in sorted(numbers.items())}
        yield key | {"id": name} | values


def part_file(workdir: Path, stem: str) -> Path:
    """This process's file of records."""
    if jax.process_count() == 1:
        return workdir / f"{stem}.jsonl"
    return workdir / f"{stem}-{jax.process_index():05d}-of-{jax.process_count():05d}.jsonl"


def all_records(workdir: Path, stem: str) -> list[dict]:
    """The records of all processes."""
    return [r for p in sorted(workdir.glob(f"{stem}*.jsonl")) for r in eval_report.read(p)]


def finished(workdir: Path, own: Path) -> set[tuple]:
    """What is done already, also by an earlier run of another number of processes."""
    records = eval_report.read(own)
    for path in workdir.glob("metrics*.jsonl"):
        if path != own:
            records += eval_report.peek(path)
    return {tuple(r[k] for k in eval_report.KEYS) for r in records}


def check_same_run(workdir: Path, facts: dict, targets: dict[str, int]) -> None:
    """Writes down what is evaluated; ValueError if the folder holds another evaluation.

    targets: render-only views by the number of input views; rounds may be added, not changed.
    """
    path = workdir / "eval.json"
    before = json.loads(path.read_text()) if path.exists() else facts | {"targets": {}}
    known = before.get("targets", {})
    pairs = {k: (before.get(k), facts[k]) for k in facts}
    pairs |= {f"num_targets of {v} views": (known.get(v, t), t) for v, t in targets.items()}
    changed = [f"{k}: {old} there, {new} here" for k, (old, new) in pairs.items() if old != new]
    if changed:
        raise ValueError(f"{workdir} holds another evaluation; different: {', '.join(changed)}")
    if jax.process_index() == 0:
        content = facts | {"targets": known | targets}
        path.write_text(json.dumps(content, indent=1) + "\n")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that is known before the first computation."""

    config: Any
    methods: tuple[str, ...]
    networks: dict[str, Network]
    rounds: list[tuple[EvalSet, int, int, list[str]]]
    training: dict[str, EvalSet]


def make_plan(config, weights: str, workdir: Path) -> Plan:
    """Reads weights and data sets and checks that they fit the methods and each other."""
    methods, counts = listed(config.methods), view_counts(config)
    networks = load_networks(config, weights)
    check_methods(methods, networks)
    for name in config.datasets:
        check_size(name, dict(config.datasets[name]), networks)
    sets = [make_eval_set(name, **dict(config.datasets[name])) for name in config.datasets]
    rounds = [(d, v, t, list(d.ids(v, t))) for d, (v, t) in itertools.product(sets, counts)]
    training = training_sets(config) if "mean" in methods else {}
    workdir.mkdir(parents=True, exist_ok=True)
    free = ("methods", "views", "num_targets", "pictures", "devices", "batch_per_device")
    settings = {k: v for k, v in json.loads(config.to_json()).items() if k not in free}
    facts = {"weights": weights and digest(weights), "lpips": lpips.available()}
    if other := config.pairwise_weights:
        facts["pairwise_weights"] = digest(other)
    check_same_run(workdir, settings | facts, {str(v): t for v, t in counts})
    return Plan(config, methods, networks, rounds, training)


def training_sets(config) -> dict[str, EvalSet]:
    """The training split of each set: what the method 'mean' averages over."""
    changes = {"split": "train", "split_file": ""}
    return {
        name: make_eval_set(name, **(dict(config.datasets[name]) | changes))
        for name in config.datasets
    }


def method_settings(config, num_inputs: int) -> Settings:
    """The part of the config that methods see."""
    graph = scene_graph(num_inputs, config.pairwise_graph, config.pairwise_window)
    num_refs = min(config.num_refs, num_inputs)
    return Settings(num_inputs, num_refs, graph, config.pairwise_steps, config.pairwise_batch)


def mean_of(data: EvalSet, num_inputs: int, samples: int, batch_size: int) -> np.ndarray:
    """Mean pointmaps of the first ``samples`` trajectories of a set."""
    ids = list(data.ids(num_inputs, 0))[:samples]
    sums = jax.jit(functools.partial(scores.pointmap_sums, num_inputs=num_inputs))
    total, count = 0.0, 0.0
    for chunk, batch in batches_of(data, ids, num_inputs, 0, batch_size):
        points, known = (np.asarray(x, np.float64)[: len(chunk)].sum(0) for x in sums(batch))
        total, count = total + points, count + known
    return scores.mean_pointmaps(total, count)


class Evaluation:
    """A plan on this process's devices."""

    def __init__(self, plan: Plan, workdir: Path):
        self.plan, self.workdir, self.devices = plan, workdir, Devices(plan.config.devices)
        self.perceptual = self.devices.place(lpips.load_weights(), spread=False)
        placed = {
            id(net): Network(net.config, self.devices.place(net.variables, spread=False))
            for net in plan.networks.values()
        }
        self.networks = {name: placed[id(net)] for name, net in plan.networks.items()}
        self.batch_size = plan.config.batch_per_device * self.devices.size
        self._means: dict[tuple[str, int], np.ndarray] = {}

    def settings(self, method: str, data: str, num_inputs: int) -> Settings:
        """What the method needs; the mean of a training set is made when first asked for."""
        settings = method_settings(self.plan.config, num_inputs)
        if method != "mean":
            return settings
        key = data, num_inputs
        if key not in self._means:
            samples = self.plan.config.mean_samples
            mean = mean_of(self.plan.training[data], num_inputs, samples, self.batch_size)
            self._means[key] = self.devices.place(mean, spread=False)
        return dataclasses.replace(settings, mean=self._means[key])

    def run(self) -> None:
        """Fills ``metrics.jsonl`` and ``times.jsonl`` with whatever they lack."""
        metrics_path = part_file(self.workdir, "metrics")
        times_path = part_file(self.workdir, "times")
        done = finished(self.workdir, metrics_path)
        eval_report.read(times_path)
        for data, num_inputs, num_targets, ids in self.plan.rounds:
            if jax.process_index() == 0:
                path = self.workdir / "splits" / f"{data.name}_{num_inputs}.json"
                save_split(path, data.name, ids)
            keys = [
                {"dataset": data.name, "views": num_inputs, "method": m} for m in self.plan.methods
            ]
            own = ids[jax.process_index() :: jax.process_count()]
            todo = [i for i in own if any((*k.values(), i) not in done for k in keys)]
            warm: set[str] = set()
            for chunk, batch in batches_of(data, todo, num_inputs, num_targets, self.batch_size):
                batch = self.devices.place(batch, spread=True)
                for key in keys:
                    new = [(*key.values(), i) not in done for i in chunk]
                    if any(new):
                        records, timing = self.one(key, chunk, batch)
                        eval_report.append(metrics_path, itertools.compress(records, new))
                        timing["warm_up"] = key["method"] not in warm
                        warm.add(key["method"])
                        eval_report.append(times_path, [key | timing])

    def one(self, key: dict, ids: list[str], batch: Batch) -> tuple[list[dict], dict]:
        """Records and times of one method on one batch."""
        method, config = key["method"], self.plan.config
        network = self.networks.get(method)
        settings = self.settings(method, key["dataset"], key["views"])
        estimate, seconds, compile_s = answer(self.devices, method, network, batch, settings)
        numbers, more_s = numbers_of(
            self.devices, estimate, batch, config.chamfer, self.perceptual, network
        )
        seconds |= more_s
        logging.info("%s %s: ND %.3f", " ".join(map(str, key.values())), ids[0], numbers["nd"][0])
        timing = {
            "scenes": len(ids),
            "seconds": {k: v / self.batch_size for k, v in seconds.items()},
            "compile_s": {k: v for k, v in compile_s.items() if v},
        }
        return list(records_of(key, ids, numbers)), timing

    def draw_extremes(self) -> None:
        """Pictures of the scenes of smallest, median and largest ND, at the most views."""
        count = self.plan.config.pictures
        shown = [m for m in ("mvdp", "mvd", "pairwise", "constant") if m in self.plan.methods][:1]
        records = all_records(self.workdir, "metrics")
        for data in {id(r[0]): r[0] for r in self.plan.rounds}.values():
            own = [r for r in self.plan.rounds if r[0] is data]
            _, num_inputs, num_targets, _ = max(own, key=lambda r: r[1])
            for method in shown if count else ():
                key = {"dataset": data.name, "views": num_inputs, "method": method}
                rows = [r for r in records if all(r[k] == v for k, v in key.items())]
                rows = sorted((r["nd"], r["id"]) for r in rows if r["nd"] is not None)
                names = {f"best{i}": row for i, row in enumerate(rows[:count])}
                names |= {f"worst{i}": row for i, row in enumerate(rows[::-1][:count])}
                names |= {"middle0": rows[len(rows) // 2]} if rows else {}
                for name, (nd, scene) in names.items():
                    self.draw(data, key, num_targets, name, nd, scene)

    def draw(self, data, key: dict, num_targets: int, name: str, nd: float, scene: str) -> None:
        """One scene computed again, and its picture."""
        method, views = key["method"], key["views"]
        network = self.networks.get(method)
        batch = data.load([scene] * self.batch_size, views, num_targets)
        batch = self.devices.place(batch, spread=True)
        settings = self.settings(method, data.name, views)
        estimate, _, _ = answer(self.devices, method, network, batch, settings)
        (points, truth, valid), _, _ = self.devices.run(
            "clouds", scores.aligned_clouds, (estimate.replace(gaussians=None), batch)
        )
        novel, _ = novel_images(self.devices, estimate, batch, network)
        shape = estimate.points.shape[1:]
        plots = self.workdir / "plots"
        plots.mkdir(exist_ok=True)
        eval_plots.scene_picture(
            plots / f"{data.name}_{views}_{method}_{name}.png",
            f"{scene}, {method}, {views} views: ND {nd:.3f}",
            np.asarray(batch.images[0]) / 2 + 0.5,
            np.asarray(points[0]).reshape(shape),
            np.asarray(truth[0]).reshape(shape),
            np.asarray(valid[0]).reshape(shape[:-1]),
            None if novel is None else np.asarray(novel[0]) / 2 + 0.5,
        )


def report(workdir: Path) -> str:
    """Summary and tables from the records of all processes; returns the table."""
    records, times = all_records(workdir, "metrics"), all_records(workdir, "times")
    summary = eval_report.summarize(records, times)
    (workdir / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    table = eval_report.table(summary)
    (workdir / "table.md").write_text(table + "\n")
    (workdir / "table_release.md").write_text(eval_report.table(summary, "_release") + "\n")
    return table


def draw_curves(workdir: Path) -> None:
    """Plots of the summary: errors and times against views, histograms."""
    records = all_records(workdir, "metrics")
    summary = json.loads((workdir / "summary.json").read_text())
    plots = workdir / "plots"
    plots.mkdir(exist_ok=True)
    for dataset in dict.fromkeys(row["dataset"] for row in summary):
        eval_plots.error_curves(summary, dataset, plots / f"{dataset}_errors.png")
        eval_plots.time_curves(summary, dataset, plots / f"{dataset}_times.png")
        for views in {row["views"] for row in summary if row["dataset"] == dataset}:
            path = plots / f"{dataset}_{views}_histogram.png"
            eval_plots.error_histogram(records, dataset, views, path)


def wait_for_all() -> None:
    """Until all processes have come this far."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("evaluated")


# --- Command line ---------------------------------------------------------------------------------


def define_flags() -> None:
    """Called when run as a program only, so that other programs can import this file."""
    config_flags.DEFINE_config_file("config", None, "What to evaluate, e.g. configs/eval_rooms.py")
    flags.DEFINE_string("weights", "", "Weight file, or the workdir of a training run")
    flags.DEFINE_string("workdir", None, "Folder for the results; one begun before is continued")
    flags.DEFINE_bool("distributed", False, "Several processes, found out from the cluster")
    flags.DEFINE_string("coordinator", "", "Several processes: HOST:PORT of the first")
    flags.DEFINE_integer("num_processes", 1, "With --coordinator: how many")
    flags.DEFINE_integer("process_id", 0, "With --coordinator: which one this is")
    flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str]) -> None:
    """Checks, evaluates, draws and reports."""
    options = flags.FLAGS
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; options start with --")
    if options.coordinator:
        jax.distributed.initialize(options.coordinator, options.num_processes, options.process_id)
    elif options.distributed:
        jax.distributed.initialize()
    workdir = Path(options.workdir)
    try:
        plan = make_plan(options.config, options.weights, workdir)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    evaluation = Evaluation(plan, workdir)
    evaluation.run()
    wait_for_all()
    if jax.process_index() == 0:
        print(report(workdir))
        if eval_plots.available():
            draw_curves(workdir)
            evaluation.draw_extremes()
        else:
            logging.warning("no plots: matplotlib is not installed (pip install matplotlib)")


if __name__ == "__main__":
    define_flags()
    app.run(main)
