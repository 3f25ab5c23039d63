"""A whole run without the command line: the oracle, resuming, several processes, the report."""

import dataclasses
import json
import time
import warnings
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eval as program
from data.eval_sets import EvalSet
from data.stored.write import write_dataset
from mvdust3r_jax.evaluation import pictures, records
from mvdust3r_jax.evaluation.devices import Devices
from mvdust3r_jax.evaluation.estimate import ground_truth
from mvdust3r_jax.evaluation.plan import Options, Plan, Round
from mvdust3r_jax.evaluation.runner import Evaluation, mean_of, write_report
from mvdust3r_jax.evaluation.sets import Unreadable, batches_of, read_split
from tests.data.stored.boxes_set import Boxes
from tests.evaluation.boxes import SCENES, TARGETS, VIEWS, box_set, stored_set, tiny_network
from tests.two_processes import run_in, run_in_two


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The same kind of scenes as a stored data set: its principal points lie elsewhere."""
    out = tmp_path_factory.mktemp("stored")
    return write_dataset(lambda config: Boxes(data_dir=out, config=config))[0]


@pytest.fixture(scope="module")
def done(stored, tmp_path_factory):
    """A finished evaluation of two sets over two devices, the second batch half filled."""
    workdir, network = tmp_path_factory.mktemp("eval"), tiny_network()
    methods, sets = ("constant", "mean", "oracle", "mvd"), (box_set(), stored_set(stored))
    plan = Plan(
        methods,
        {"mvd": network},
        [Round(d, VIEWS, TARGETS, list(d.ids(VIEWS, TARGETS))[:SCENES]) for d in sets],
        training={d.name: d for d in sets},
        options=Options(devices=2, pictures=1, mean_samples=SCENES),
        skipped={"mvdp": "no such blocks"},
        labels={"mvd": "mvd (tiny)"},
    )
    run = Evaluation(plan, workdir)
    run.run()
    return run, workdir


def _rows(workdir, dataset, method):
    found = records.read(workdir / "metrics.jsonl")
    return [r for r in found if r["dataset"] == dataset and r["method"] == method]


@pytest.mark.parametrize("dataset", ["boxes", "stored"])
def test_oracle_is_perfect(done, dataset):
    """Ground truth through everything: no point error, all poses right, wherever the crop of the
    data has left the principal point; constants are wrong."""
    _, workdir = done
    rows = _rows(workdir, dataset, "oracle")
    assert len(rows) == SCENES
    for row in rows:
        assert row["nd"] < 1e-5 and row["cd"] < 1e-9 and row["focal_error"] < 1e-4
        assert row["dac0.1"] == row["rra15"] == row["rta15"] == row["pose_ok_share"] == 1
        # Half a pixel of principal point would be a degree here. float32 costs hundredths.
        assert row["rre_deg"] < 0.02 and row["rte_deg"] < 0.2
    assert all(r["nd"] > 0.1 for r in _rows(workdir, dataset, "constant"))
    assert all(np.isfinite(r["psnr_db"]) for r in _rows(workdir, dataset, "mvd"))


def test_mean_is_over_the_known_pixels_of_each_role(done):
    """Pixel by pixel: the reference's mean over scenes, the sources' over scenes and views."""
    data = box_set()
    batch = jax.device_put(data.load(data.ids(VIEWS, 0), VIEWS, 0))
    batch = dataclasses.replace(batch, depth_m=batch.depth_m * (batch.images[..., 0] > 0))
    truth = ground_truth(batch, VIEWS, jnp.zeros(SCENES, jnp.int32))
    points = np.where(truth.valid[..., None], truth.points, np.nan)
    known = EvalSet(
        "boxes", data.size, data.ids, lambda ids, v, t: jax.tree.map(lambda x: x[: len(ids)], batch)
    )
    mean = mean_of(Devices(1), known, VIEWS, samples=SCENES, batch_size=SCENES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels that no scene knows
        want = np.nan_to_num(np.nanmean(points[:, :1], axis=(0, 1)))
        others = np.nan_to_num(np.nanmean(points[:, 1:], axis=(0, 1)))
    np.testing.assert_allclose(mean[0], want, atol=1e-5)
    np.testing.assert_allclose(mean[1], others, atol=1e-5)
    np.testing.assert_array_equal(mean[1], mean[2])


def test_resumed_run_writes_the_same_bytes(done):
    """Cut off in the middle of a line, the run continues and ends with the same file."""
    run, workdir = done
    path = workdir / "metrics.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) == 2 * 4 * SCENES
    path.write_bytes(b"".join(lines[:15]) + lines[15][:40])
    run.run()
    assert path.read_bytes() == whole


_WORKER = """
import os, sys
sys.path[:0] = [sys.argv[3]]
from tests.xla_flags import xla_flags
os.environ["XLA_FLAGS"] = xla_flags(1)
import jax
# A run without collectives: the first one would have to begin within 30 s in all processes.
jax.config.update("jax_cpu_collectives_implementation", None)
jax.distributed.initialize(f"127.0.0.1:{sys.argv[2]}", 2, int(sys.argv[1]))
jax.config.update("jax_default_matmul_precision", "float32")
from pathlib import Path
from tests.evaluation.runner_test import evaluate_depths
evaluate_depths(Path(sys.argv[4]))
"""


class Depths(Evaluation):
    """Mean depth instead of methods and metrics, which would have to be compiled."""

    def one(self, key, ids, batch):
        numbers = {"nd": np.asarray(batch.depth_m).mean(axis=(1, 2, 3))}
        timing = {"scenes": len(ids), "seconds": {"network": 1.0}, "compile_s": {}}
        return list(records.records_of(key, ids, numbers)), timing


def depths_plan(data):
    """All of a set of boxes."""
    rounds = [Round(data, VIEWS, TARGETS, data.ids(VIEWS, TARGETS))]
    return Plan(("constant",), {}, rounds, options=Options(devices=1))


def slow_report(workdir, plan):
    """So slow that another process that did not wait for it would come first."""
    time.sleep(1)
    return write_report(workdir, plan)


def evaluate_depths(workdir):
    """All boxes by this process, or its share of them; nobody leaves before the report is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "Evaluation", Depths)
        patch.setattr(program, "write_report", slow_report)
        patch.setattr(program.plots, "available", lambda: False)
        program.evaluate(depths_plan(box_set()), workdir)
    assert (workdir / "summary.json").exists()


def test_two_processes_go_on_and_give_the_summary_of_one(tmp_path):
    """Each takes its share of what an earlier single process left, and the report is the same."""
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    alone.mkdir(), shared.mkdir()
    evaluate_depths(alone)
    lines = (alone / "metrics.jsonl").read_text().splitlines(keepends=True)
    (shared / "metrics.jsonl").write_text(lines[0])
    (shared / "metrics-00001-of-00002.jsonl").write_text(lines[1][:40])
    run_in_two(tmp_path / "worker.py", _WORKER, str(shared), timeout_s=300)
    parts = {path.name: len(records.peek(path)) for path in shared.glob("metrics*.jsonl")}
    assert parts == {
        "metrics.jsonl": 1,
        "metrics-00000-of-00002.jsonl": 1,
        "metrics-00001-of-00002.jsonl": 1,
    }
    rows = [json.loads((folder / "summary.json").read_text()) for folder in (alone, shared)]
    assert rows[0] == rows[1] and rows[0][0]["scenes"] == SCENES


_WITHOUT_WEIGHTS = """
import os, sys
sys.path[:0] = [sys.argv[3]]
from tests.xla_flags import xla_flags
os.environ["XLA_FLAGS"] = xla_flags(1)
from types import SimpleNamespace
import eval as program
from configs import eval_rooms
index, address = int(sys.argv[1]), f"127.0.0.1:{sys.argv[2]}"
weights = "nowhere.safetensors" if index == 1 else ""
processes = dict(coordinator=address, num_processes=2, process_id=index)
config = eval_rooms.get_config()
config.methods = "constant"
program.main(SimpleNamespace(config=config, weights=weights, workdir=sys.argv[4], **processes))
"""


def test_what_one_process_is_refused_ends_all(tmp_path):
    """In the same words, and nothing is written."""
    told = run_in(
        2, tmp_path / "worker.py", _WITHOUT_WEIGHTS, str(tmp_path / "out"), timeout_s=300, code=1
    )
    for said in told:
        assert "error: process 1: there are no weights 'nowhere.safetensors'" in said
    assert not (tmp_path / "out").exists()


def test_report_has_tables_and_plots(done):
    """Summary, all tables and plots exist; the table has a row per method, the skipped one too."""
    run, workdir = done
    table = write_report(workdir, run.plan)
    pictures.draw_curves(workdir)
    pictures.draw_extremes(run)
    assert table.count("| 4 | 3 |") == 8 and "| oracle | 4 | 3 | 0.000" in table
    assert "| mvd (tiny) | 4 |" in table and "| mvdp (skipped: no such blocks) | - |" in table
    assert (workdir / "table.md").read_text() == table
    assert {"table_release.md", "table.csv"} <= {p.name for p in workdir.iterdir()}
    summary = json.loads((workdir / "summary.json").read_text())
    assert {row["method"] for row in summary} == {"constant", "mean", "oracle", "mvd"}
    assert "network_compile_s" in summary[0]["times"] and summary[0]["numbers"]["nd"]["scenes"] == 3
    names = {p.name for p in (workdir / "plots").iterdir()}
    assert {"boxes_errors.png", "boxes_times.png", "stored_4_mvd_best0.png"} <= names
    assert read_split(workdir / "splits" / "boxes_4.json") == ["0", "1", "2"]
    with pytest.raises(ValueError, match="is of the split 'test', expected one of 'train'"):
        read_split(workdir / "splits" / "stored_4.json", "stored", "train")


def boxes_without(unreadable):
    """Boxes of which some cannot be read."""
    whole = box_set()

    def load(ids, *views):
        if set(ids) & set(unreadable):
            raise Unreadable("frame 3 is a placeholder")
        return whole.load(ids, *views)

    return dataclasses.replace(whole, load=load)


@pytest.mark.parametrize("lacking", [[], ["1"], ["0", "1", "2"]])
def test_the_report_tells_what_it_lacks(tmp_path, monkeypatch, lacking):
    """Trajectories without a record are counted and named; a round without any is an error."""
    plan, options = depths_plan(boxes_without(lacking)), {"config": None, "weights": ""}
    options |= {"coordinator": "", "distributed": False, "workdir": str(tmp_path)}
    monkeypatch.setattr(program, "plan_of", lambda config, weights: plan)
    monkeypatch.setattr(program, "Evaluation", Depths)
    # Plots of nothing are drawn, others are another test's.
    monkeypatch.setattr(program.plots, "available", lambda: len(lacking) == SCENES)
    if len(lacking) == SCENES:
        with pytest.raises(SystemExit, match="error: .* no record of any .* of boxes at 4 views"):
            program.main(SimpleNamespace(**options))
    else:
        program.main(SimpleNamespace(**options))
    (row,) = json.loads((tmp_path / "summary.json").read_text())
    assert row["missing_ids"] == lacking and row["missing"] == len(lacking)
    told = f"without a record: {len(lacking)} at 4 views of constant ("
    assert (told in (tmp_path / "table.md").read_text()) == bool(lacking)


def test_unreadable_trajectories_are_left_out():
    """One of three cannot be read: its batch comes without it, filled up as always."""

    def load(ids, num_inputs, num_targets):
        if "bad" in ids:
            raise Unreadable("frame 3 is a placeholder")
        return list(ids)

    data = EvalSet("x", (8, 8), lambda v, t: (), load)
    batches = batches_of(data, ["a", "bad", "b"], 4, 0, 2)
    assert list(batches) == [(["a"], ["a", "a"]), (["b"], ["b", "b"])]
    assert list(batches_of(data, ["bad"], 4, 0, 2)) == []
