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
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import config_flags

from data.eval_sets import EvalSet, make_eval_set, save_split
from mvdust3r_jax import eval_report, evaluate, lpips
from mvdust3r_jax.alignment_start import scene_graph
from mvdust3r_jax.chamfer import chamfer_distance, chamfer_distance_kdtree
from mvdust3r_jax.metrics import ERROR_CAP
from mvdust3r_jax.models.mvdust3r import ModelConfig
from mvdust3r_jax.types import Batch
from mvdust3r_jax.weights import load_weights

BASELINES = ("constant", "oracle")
NETWORKS = ("mvd", "mvdp", "mvdp_best", "pairwise")
AXIS = "data"

# --- Plan and its checks, before anything is computed ---------------------------------------------


@dataclasses.dataclass(frozen=True)
class Network:
    """A network's configuration and weights."""

    config: ModelConfig
    variables: Any


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


# --- Running on devices ---------------------------------------------------------------------------


class Devices:
    """Runs functions of batches with the batch axis spread over this process's devices."""

    def __init__(self, count: int):
        devices = jax.local_devices()[: count or None]
        self.mesh = Mesh(np.array(devices), (AXIS,))
        self._compiled: dict[Any, Any] = {}

    @property
    def size(self) -> int:
        """Number of devices."""
        return self.mesh.size

    def place(self, tree: Any, spread: bool) -> Any:
        """Arrays on the devices: batch axis spread, or a copy on each."""
        return jax.device_put(tree, NamedSharding(self.mesh, P(AXIS) if spread else P()))

    def run(self, name: str, function: Callable, batches: tuple, constants: tuple = ()):
        """``function(*constants, *batches)``; returns (result, seconds, seconds of compilation).

        Each device runs the function on its own samples. Compiled once per name and shapes.
        """
        arguments = (*constants, *batches)
        shapes = tuple((x.shape, x.dtype) for x in jax.tree.leaves(batches))
        key = (name, shapes)
        start, compile_s = time.perf_counter(), 0.0
        if key not in self._compiled:
            specs = (P(),) * len(constants) + (P(AXIS),) * len(batches)
            mapped = jax.shard_map(
                function, mesh=self.mesh, in_specs=specs, out_specs=P(AXIS), check_vma=False
            )
            self._compiled[key] = jax.jit(mapped).lower(*arguments).compile()
            compile_s = time.perf_counter() - start
            start = time.perf_counter()
        result = jax.block_until_ready(self._compiled[key](*arguments))
        return result, time.perf_counter() - start, compile_s


# --- One method on one batch ----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a method needs to know besides its network."""

    num_inputs: int
    num_refs: int
    graph: tuple[np.ndarray, np.ndarray]
    steps: int
    pairs_at_once: int


def zero_reference(batch: Batch) -> jax.Array:
    """View 0 is the reference."""
    return jnp.zeros(len(batch.images), jnp.int32)


def answer(devices: Devices, method: str, network: Network | None, batch: Batch, s: Settings):
    """The method's ``Estimate``, seconds of each stage, and of each stage's compilation."""
    seconds, compile_s = {}, {}

    def run(stage, name, function, batches, constants=()):
        result, seconds[stage], compile_s[stage] = devices.run(
            f"{method}/{name}", function, batches, constants
        )
        return result

    reference = zero_reference(batch)
    views = {"num_inputs": s.num_inputs}
    if method == "pairwise":
        options = views | {"config": network.config, "graph": s.graph}
        function = functools.partial(
            evaluate.predict_scene_pairs, **options, pairs_at_once=s.pairs_at_once
        )
        pairs = run("network", "pairs", function, (batch,), (network.variables,))
        align = functools.partial(evaluate.align_scene_pairs, **views, steps=s.steps)
        return run("alignment", "align", align, (pairs,)), seconds, compile_s
    if method in BASELINES:
        make = getattr(evaluate, f"{method}_prediction")
        prediction = run("network", "predict", functools.partial(make, **views), (batch,))
    else:
        views |= {"config": network.config, "num_refs": 1 if method == "mvd" else s.num_refs}
        paths = method == "mvdp_best"
        make = evaluate.predict_all_paths if paths else evaluate.predict
        function = functools.partial(make, **views)
        prediction = run("network", "predict", function, (batch,), (network.variables,))
        if paths:
            prediction, reference = run("choice", "best", evaluate.best_path, (prediction, batch))
    reference = devices.place(reference, spread=True)
    estimate = run("pose", "pose", evaluate.add_poses, (prediction, reference))
    return estimate, seconds, compile_s


def chamfer(devices: Devices, estimate, batch: Batch, kind: str) -> np.ndarray:
    """Chamfer distances of the aligned clouds, capped."""
    clouds, _, _ = devices.run("clouds", evaluate.aligned_clouds, (estimate, batch))
    if kind == "blocked" or (kind == "auto" and jax.default_backend() != "cpu"):
        points, truth, valid = clouds
        distances, _, _ = devices.run("chamfer", chamfer_distance, (points, valid, truth, valid))
    else:
        rows = zip(*(np.asarray(x) for x in clouds), strict=True)
        distances = np.array([chamfer_distance_kdtree(p[v], t[v]) for p, t, v in rows])
    return np.minimum(np.asarray(distances), ERROR_CAP)


def numbers_of(devices: Devices, estimate, batch: Batch, config, perceptual, sh_degree: int):
    """All numbers of an estimate: name -> one value per sample."""
    numbers, _, _ = devices.run("score", evaluate.score, (estimate, batch))
    numbers = {name: np.asarray(values) for name, values in numbers.items()}
    numbers["cd"] = chamfer(devices, estimate, batch, config.chamfer)
    num_inputs = estimate.points.shape[1]
    if estimate.gaussians is not None and batch.images.shape[1] > num_inputs:
        draw = functools.partial(evaluate.novel_views, sh_degree=sh_degree)
        images, _, _ = devices.run(f"render{sh_degree}", draw, (estimate, batch))
        truth = batch.images[:, num_inputs:]
        compare = evaluate.score_images if perceptual is not None else evaluate.score_images_plain
        constants = () if perceptual is None else (perceptual,)
        quality, _, _ = devices.run("images", compare, (images, truth), constants)
        numbers |= {name: np.asarray(values) for name, values in quality.items()}
    return numbers


# --- The loop -------------------------------------------------------------------------------------


def batches_of(data: EvalSet, ids: list[str], num_inputs: int, num_targets: int, size: int):
    """(ids, Batch) with exactly ``size`` samples; the last one is filled by repetition."""
    for start in range(0, len(ids), size):
        chunk = list(ids[start : start + size])
        padded = chunk + [chunk[-1]] * (size - len(chunk))
        yield chunk, data.load(padded, num_inputs, num_targets)


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


def check_same_run(workdir: Path, facts: dict) -> None:
    """Writes down what is evaluated; ValueError if the folder holds another evaluation."""
    path = workdir / "eval.json"
    if path.exists():
        before = json.loads(path.read_text())
        changed = [k for k in facts if before.get(k) != facts[k]]
        if changed:
            raise ValueError(
                f"{workdir} holds another evaluation; different: "
                + ", ".join(f"{k}: {before.get(k)} there, {facts[k]} here" for k in changed)
            )
    elif jax.process_index() == 0:
        path.write_text(json.dumps(facts, indent=1) + "\n")


def evaluate_all(config, weights: str, workdir: Path) -> None:
    """Fills ``metrics.jsonl`` and ``times.jsonl`` of this process."""
    counts, methods = view_counts(config), listed(config.methods)
    networks = load_networks(config, weights)
    check_methods(methods, networks)
    sets = [make_eval_set(name, **dict(config.datasets[name])) for name in config.datasets]
    rounds = [(d, v, t, d.ids(v, t)) for d, (v, t) in itertools.product(sets, counts)]
    workdir.mkdir(parents=True, exist_ok=True)
    ignored = ("methods", "views", "num_targets", "pictures", "devices", "batch_per_device")
    settings = {k: v for k, v in json.loads(config.to_json()).items() if k not in ignored}
    check_same_run(workdir, settings | {"weights": weights})

    devices = Devices(config.devices)
    perceptual = devices.place(lpips.load_weights(), spread=False)
    placed = {
        name: Network(net.config, devices.place(net.variables, spread=False))
        for name, net in networks.items()
    }
    metrics_path, times_path = part_file(workdir, "metrics"), part_file(workdir, "times")
    done = {tuple(r[k] for k in eval_report.KEYS) for r in eval_report.read(metrics_path)}
    eval_report.read(times_path)
    warm: set[tuple] = set()

    for data, num_inputs, num_targets, ids in rounds:
        if jax.process_index() == 0:
            save_split(workdir / "splits" / f"{data.name}_{num_inputs}.json", data.name, ids)
        own = ids[jax.process_index() :: jax.process_count()]
        todo = [
            i
            for i in own
            if any((data.name, num_inputs, method, i) not in done for method in methods)
        ]
        size = config.batch_per_device * devices.size
        settings = Settings(
            num_inputs,
            min(config.num_refs, num_inputs),
            scene_graph(num_inputs, config.pairwise_graph, config.pairwise_window),
            config.pairwise_steps,
            config.pairwise_batch,
        )
        for chunk, batch in batches_of(data, todo, num_inputs, num_targets, size):
            batch = devices.place(batch, spread=True)
            for method in methods:
                key = {"dataset": data.name, "views": num_inputs, "method": method}
                keep = [(*key.values(), i) not in done for i in chunk]
                if not any(keep):
                    continue
                network = placed.get(method)
                estimate, seconds, compile_s = answer(devices, method, network, batch, settings)
                degree = network.config.sh_degree if network else 0
                start = time.perf_counter()
                numbers = numbers_of(devices, estimate, batch, config, perceptual, degree)
                seconds["metrics"] = time.perf_counter() - start
                records = list(records_of(key, chunk, numbers))
                eval_report.append(metrics_path, itertools.compress(records, keep))
                group = tuple(key.values())
                timing = {
                    "scenes": len(chunk),
                    "warm_up": group not in warm,
                    "seconds": {k: v / size for k, v in seconds.items()},
                    "compile_s": {k: v for k, v in compile_s.items() if v},
                }
                warm.add(group)
                eval_report.append(times_path, [key | timing])
                logging.info(
                    "%s, %d views, %s: %s ND %.3f",
                    *(data.name, num_inputs, method, chunk[0], numbers["nd"][0]),
                )


def report(workdir: Path) -> str:
    """Summary and tables from the records of all processes; returns the table."""
    records = [r for p in sorted(workdir.glob("metrics*.jsonl")) for r in eval_report.read(p)]
    times = [r for p in sorted(workdir.glob("times*.jsonl")) for r in eval_report.read(p)]
    summary = eval_report.summarize(records, times)
    (workdir / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    table = eval_report.table(summary)
    (workdir / "table.md").write_text(table + "\n")
    (workdir / "table_release.md").write_text(eval_report.table(summary, "_release") + "\n")
    return table


# --- Command line ---------------------------------------------------------------------------------

_CONFIG = config_flags.DEFINE_config_file("config", "configs/eval_rooms.py", "What to evaluate.")
_WEIGHTS = flags.DEFINE_string("weights", "", "Weight file, or the workdir of a training run.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Where the results go; a started one is continued.")


def main(argv: list[str]) -> None:
    """Evaluates and reports."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if not _WORKDIR.value:
        raise app.UsageError("--workdir is missing")
    workdir = Path(_WORKDIR.value)
    evaluate_all(_CONFIG.value, _WEIGHTS.value, workdir)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("evaluated")
    if jax.process_index() == 0:
        print(report(workdir))


if __name__ == "__main__":
    app.run(main)
