"""The evaluation as a whole: oracle, resuming, devices, clear errors; records and intervals."""

import dataclasses
import functools
import json
import warnings

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

import eval as evaluation
from configs import eval_rooms
from data.box import box_views
from data.eval_sets import EvalSet, make_eval_set, read_split, save_split
from data.stored.builder import write_dataset
from data.stored.schema import CorruptRecord
from data.stored.stream import DataConfig, make_eval_iterator
from mvdust3r_jax import VARIANTS, MVDust3r
from mvdust3r_jax.evaluation import report as eval_report
from mvdust3r_jax.evaluation import scores
from mvdust3r_jax.evaluation.methods import Devices, Network
from mvdust3r_jax.geometry import transforms
from mvdust3r_jax.geometry.truth import true_pointmaps
from mvdust3r_jax.metrics import pointmaps as metrics
from tests.data.stored.stream_test import Boxes
from tests.two_processes import run_in_two

SIZE, VIEWS, TARGETS, SCENES = 32, 4, 1, 3


def _box_set(max_views=VIEWS):
    """Scenes inside a box, by number."""

    def ids(num_inputs, num_targets):
        if num_inputs > max_views:
            raise ValueError(f"boxes: {num_inputs} views wanted, there are {max_views}")
        return [str(i) for i in range(SCENES)]

    def load(ids, num_inputs, num_targets):
        scenes = [
            box_views(np.random.default_rng(int(i)), 1, num_inputs + num_targets, SIZE, SIZE)
            for i in ids
        ]
        return jax.tree.map(lambda *x: np.concatenate(x), *scenes)

    return EvalSet("boxes", ids, load)


@pytest.fixture(scope="module")
def network():
    """A tiny network with random weights."""
    config = VARIANTS["tiny"]
    images = jnp.zeros((1, 2, SIZE, SIZE, 3))
    return Network(config, jax.jit(MVDust3r(config).init)(jax.random.key(0), images))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The same kind of scenes as a stored data set: its principal points lie elsewhere."""
    out = tmp_path_factory.mktemp("stored")
    return write_dataset(lambda config: Boxes(data_dir=out, config=config))[0]


def _stored_set(folder, split_file=""):
    settings = dict(source="records", folder=str(folder), split="test", height=SIZE, width=SIZE)
    return make_eval_set("stored", split_file=split_file, **settings)


@pytest.fixture(scope="module")
def done(network, stored, tmp_path_factory):
    """A finished evaluation of two sets over two devices, the second batch half filled."""
    workdir = tmp_path_factory.mktemp("eval")
    config = eval_rooms.get_config()
    config.devices = 2
    config.pictures = 1
    config.mean_samples = SCENES
    methods, sets = ("constant", "mean", "oracle", "mvd"), (_box_set(), _stored_set(stored))
    rounds = [(d, VIEWS, TARGETS, d.ids(VIEWS, TARGETS)[:SCENES]) for d in sets]
    plan = evaluation.Plan(config, methods, {"mvd": network}, rounds, {d.name: d for d in sets})
    run = evaluation.Evaluation(plan, workdir)
    run.run()
    return run, workdir


def _rows(workdir, dataset, method):
    records = eval_report.read(workdir / "metrics.jsonl")
    return [r for r in records if r["dataset"] == dataset and r["method"] == method]


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
    data = _box_set()
    batch = jax.tree.map(jnp.asarray, data.load(data.ids(VIEWS, 0), VIEWS, 0))
    batch = dataclasses.replace(batch, depth_m=batch.depth_m * (batch.images[..., 0] > 0))
    truth = scores.ground_truth(batch, VIEWS, jnp.zeros(SCENES, jnp.int32))
    points = np.where(truth.valid[..., None], truth.points, np.nan)
    known = EvalSet(
        "boxes", data.ids, lambda ids, v, t: jax.tree.map(lambda x: x[: len(ids)], batch)
    )
    mean = evaluation.mean_of(known, VIEWS, samples=SCENES, batch_size=SCENES)
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
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=1"
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{sys.argv[2]}", 2, int(sys.argv[1]))
sys.path[:0] = [sys.argv[3]]
jax.config.update("jax_default_matmul_precision", "float32")
from pathlib import Path
from tests.eval_test import evaluate_depths
evaluate_depths(Path(sys.argv[4]))
"""


class Depths(evaluation.Evaluation):
    """Mean depth instead of methods and metrics, which would have to be compiled."""

    def one(self, key, ids, batch):
        numbers = {"nd": np.asarray(batch.depth_m).mean(axis=(1, 2, 3))}
        timing = {"scenes": len(ids), "seconds": {"network": 1.0}, "compile_s": {}}
        return list(evaluation.records_of(key, ids, numbers)), timing


def evaluate_depths(workdir):
    """All boxes by this process, or its share of them."""
    config, data = eval_rooms.get_config(), _box_set()
    config.devices = 1
    rounds = [(data, VIEWS, TARGETS, data.ids(VIEWS, TARGETS))]
    Depths(evaluation.Plan(config, ("constant",), {}, rounds, {}), workdir).run()
    evaluation.wait_for_all()
    if jax.process_index() == 0:
        evaluation.report(workdir)


def test_two_processes_go_on_and_give_the_summary_of_one(tmp_path):
    """Each takes its share of what an earlier single process left, and the report is the same."""
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    alone.mkdir(), shared.mkdir()
    evaluate_depths(alone)
    lines = (alone / "metrics.jsonl").read_text().splitlines(keepends=True)
    (shared / "metrics.jsonl").write_text(lines[0])
    (shared / "metrics-00001-of-00002.jsonl").write_text(lines[1][:40])
    run_in_two(tmp_path / "worker.py", _WORKER, str(shared), timeout_s=300)
    parts = {path.name: len(eval_report.peek(path)) for path in shared.glob("metrics*.jsonl")}
    assert parts == {
        "metrics.jsonl": 1,
        "metrics-00000-of-00002.jsonl": 1,
        "metrics-00001-of-00002.jsonl": 1,
    }
    rows = [json.loads((folder / "summary.json").read_text()) for folder in (alone, shared)]
    assert rows[0] == rows[1] and rows[0][0]["scenes"] == SCENES


def test_report_has_tables_and_plots(done):
    """Summary, both tables and plots exist; the table has a row per method."""
    run, workdir = done
    table = evaluation.report(workdir)
    evaluation.draw_curves(workdir)
    run.draw_extremes()
    assert table.count("| 4 | 3 |") == 8 and "| oracle | 4 | 3 | 0.000" in table
    summary = json.loads((workdir / "summary.json").read_text())
    assert {row["method"] for row in summary} == {"constant", "mean", "oracle", "mvd"}
    assert "network_compile_s" in summary[0]["times"] and summary[0]["numbers"]["nd"]["scenes"] == 3
    names = {p.name for p in (workdir / "plots").iterdir()}
    assert {"boxes_errors.png", "boxes_times.png", "stored_4_mvd_best0.png"} <= names
    assert read_split(workdir / "splits" / "boxes_4.json") == ["0", "1", "2"]


def test_a_known_similarity_changes_no_aligned_metric():
    """A prediction scaled, moved and (where axes do not matter) turned scores the same."""
    batch = jax.tree.map(jnp.asarray, _box_set().load(["5"], VIEWS, 0))
    truth = scores.ground_truth(batch, VIEWS, jnp.zeros(1, jnp.int32))
    wobbly = truth.points * (1 + 0.1 * jnp.sin(5 * truth.points))

    def score(factor, turn=(0.0, 0.0, 0.0), move=(0.0, 0.0, 0.0)):
        rotation = transforms.rotation_from_axis_angle(jnp.array(turn))
        moved = transforms.rigid(rotation, jnp.array(move))
        estimate = scores.Estimate(
            points=transforms.transform_points(moved[None, None], factor * wobbly),
            confidence=jnp.ones(wobbly.shape[:-1]),
            gaussians=None,
            reference=jnp.zeros(1, jnp.int32),
            focal_px=jnp.full(1, 30.0),
            ref_from_cam=moved @ truth.ref_from_cam.at[..., :3, 3].multiply(factor),
            pose_ok=jnp.ones((1, VIEWS), bool),
        )
        return jax.jit(scores.score)(estimate, batch)

    plain, moved = score(1.0), score(3.7, move=(0.4, -0.2, 0.3))
    turned = score(3.7, turn=(0.5, 0.2, -0.3), move=(0.4, -0.2, 0.3))
    assert plain["nd"] > 1e-3 and abs(turned["nd"] - plain["nd"]) > 1e-4
    # The release's angles are between poses of cameras to the world, which a turn changes.
    free = [n for n in plain if not n.startswith(("nd", "dac")) and "release" not in n]
    assert {"similarity_error_m", "rre_deg", "rte_deg", "maa30"} <= set(free)
    for name, value in plain.items():
        # Hundredths of a degree: an arccos near 1 in float32.
        close = dict(rtol=1e-3, atol=2e-2 if "deg" in name else 1e-3, err_msg=name)
        np.testing.assert_allclose(turned[name], value, **close) if name in free else None
        if "release" not in name or name.startswith(("nd", "dac")):
            np.testing.assert_allclose(moved[name], value, **close)


def test_stored_sets_give_the_published_order(stored, tmp_path):
    """A stored set yields its own frames, reordered as published; too many views are an error."""
    data = _stored_set(stored)
    ids = data.ids(4, 1)
    assert len(ids) == 10 and ids[3] == "2/3"
    batch = data.load(ids[3:5], 4, 1)
    assert batch.images.shape == (2, 5, SIZE, SIZE, 3)
    cfg = DataConfig(sources=((str(stored), 1.0),), split="test", image_size=(SIZE, SIZE))
    direct, info = next(make_eval_iterator(cfg, 4, 1, batch_size=5))
    assert info["ids"][3].endswith(ids[3])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[3:5]), batch, direct)
    with pytest.raises(ValueError, match="up to 6 and 2"):
        data.ids(7, 1)
    with pytest.raises(ValueError, match="up to 6 and 2"):
        data.ids(6, 3)
    save_split(tmp_path / "split.json", "stored", ["2/3", "2/7"])
    assert _stored_set(stored, str(tmp_path / "split.json")).ids(4, 1) == ["2/3", "2/7"]


def test_a_count_takes_that_many_stored_trajectories_evenly_spread(stored):
    """First and last are among them; more than there are is all of them."""
    settings = dict(source="records", folder=str(stored), split="test", height=SIZE, width=SIZE)
    ids = _stored_set(stored).ids(4, 1)
    assert make_eval_set("stored", **settings, count=3).ids(4, 1) == [ids[0], ids[4], ids[9]]
    assert make_eval_set("stored", **settings, count=99).ids(4, 1) == ids


def test_rooms_of_other_options():
    """Options change the rooms of the same seeds; one that does not exist is an error."""
    settings = dict(source="rooms", split="test", count=1, height=16, width=16)
    plain = make_eval_set("plain", **settings)
    narrow = make_eval_set("narrow", **settings, options={"fov_deg": [35.0, 36.0]})
    focal = [d.load(d.ids(2, 0), 2, 0).intrinsics[0, 0, 0, 0] for d in (plain, narrow)]
    assert focal[0] < 17.2 and 8 / np.tan(np.deg2rad(18)) <= focal[1] <= 8 / np.tan(
        np.deg2rad(17.5)
    )
    with pytest.raises(ValueError, match="got 'fov'"):
        make_eval_set("wrong", **settings, options={"fov": 40})


def test_best_path_is_chosen_by_the_truth():
    """Of two paths the one that equals the truth is taken, with its own reference view."""
    batch = jax.tree.map(jnp.asarray, _box_set().load(["5", "6"], VIEWS, 0))
    exact = [scores.ground_truth(batch, VIEWS, jnp.full(2, r)).points for r in range(2)]
    paths = jnp.stack([exact[0].at[0].multiply(jnp.array([1.0, 2.0, 1.0])), exact[1]], axis=1)
    paths = paths.at[1, 1, ..., 0].add(paths[1, 1, ..., 2] ** 2)
    prediction = scores.Prediction(paths, jnp.ones(paths.shape[:-1]))
    chosen, reference = scores.best_path(prediction, batch)
    np.testing.assert_array_equal(reference, [1, 0])
    np.testing.assert_allclose(chosen.points[0], exact[1][0])


def test_devices_share_a_batch():
    """Spread over eight devices the result is that of one; each shape is compiled once."""
    batch = np.arange(16.0, dtype=np.float32).reshape(8, 2)
    eight, one = Devices(8), Devices(1)
    answers = []
    for devices in (eight, one):
        placed = devices.place(batch, spread=True)
        result, _, compile_s = devices.run("f", lambda c, x: c * x, (placed,), (jnp.float32(2),))
        assert compile_s > 0
        _, _, again = devices.run("f", lambda c, x: c * x, (placed,), (jnp.float32(2),))
        assert again == 0
        answers.append(np.asarray(result))
    np.testing.assert_array_equal(*answers)


def test_bad_input_is_named(network, tmp_path):
    """Unknown methods, weights without cross-reference blocks, too many views, no weights."""
    plain = Network(dataclasses.replace(network.config, cross_ref=False), {})
    with pytest.raises(ValueError, match="'mvdq'"):
        evaluation.check_methods(("mvdq",), {})
    with pytest.raises(ValueError, match="cross-reference"):
        evaluation.check_methods(("mvdp",), {"mvdp": plain})
    with pytest.raises(ValueError, match="--weights"):
        evaluation.check_methods(("mvd",), {})
    with pytest.raises(ValueError, match="5 views wanted"):
        _box_set().ids(5, 0)
    config = ml_collections.ConfigDict({"views": "4,8,12", "num_targets": "1,2"})
    with pytest.raises(ValueError, match="3 entries"):
        evaluation.view_counts(config)
    odd = dict(source="rooms", height=18, width=16)
    with pytest.raises(ValueError, match="18x16 cannot be cut into patches of 8x8.*'mvd'"):
        evaluation.check_size("rooms", odd, {"mvd": network})
    save_split(tmp_path / "split.json", "x", ["1"])
    assert read_split(tmp_path / "split.json") == ["1"]
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ValueError, match="no split file"):
        read_split(tmp_path / "other.json")


def test_a_folder_takes_no_other_evaluation(tmp_path):
    """Other weights and another number of new views are refused; more rounds are welcome."""
    evaluation.check_same_run(tmp_path, {"weights": "a"}, {"4": 1})
    evaluation.check_same_run(tmp_path, {"weights": "a"}, {"8": 2})
    with pytest.raises(ValueError, match="weights: a there, b here"):
        evaluation.check_same_run(tmp_path, {"weights": "b"}, {})
    with pytest.raises(ValueError, match="num_targets of 8 views: 2 there, 3 here"):
        evaluation.check_same_run(tmp_path, {"weights": "a"}, {"4": 1, "8": 3})


def test_unreadable_trajectories_are_left_out():
    """One of three cannot be read: its batch comes without it, filled up as always."""

    def load(ids, num_inputs, num_targets):
        if "bad" in ids:
            raise CorruptRecord("frame 3 is a placeholder")
        return list(ids)

    data = EvalSet("x", lambda v, t: (), load)
    batches = evaluation.batches_of(data, ["a", "bad", "b"], 4, 0, 2)
    assert list(batches) == [(["a"], ["a", "a"]), (["b"], ["b", "b"])]
    assert list(evaluation.batches_of(data, ["bad"], 4, 0, 2)) == []


def test_interval_covers_the_mean():
    """The bootstrapped interval contains the true mean in about 95 % of repetitions."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        mean, low, high = eval_report.interval(rng.normal(size=40), resamples=500)
        assert low <= mean <= high
        hits += low <= 0 <= high
    assert 0.88 <= hits / 200 <= 0.99
    assert all(np.isnan(eval_report.interval(np.zeros(0))))


def test_records_keep_what_has_no_value():
    """NaN and infinity survive JSON; a scene without value is counted apart, not averaged."""
    for value in (1.5, float("inf"), -float("inf")):
        assert eval_report.decode(json.loads(json.dumps(eval_report.encode(value)))) == value
    assert np.isnan(eval_report.decode(eval_report.encode(float("nan"))))
    key = {"dataset": "d", "views": 4, "method": "m"}
    records = [key | {"id": "a", "nd": 1.0}, key | {"id": "b", "nd": None}]
    (row,) = eval_report.summarize(records, [])
    assert row["numbers"]["nd"]["mean"] == 1.0 and row["numbers"]["nd"]["without_value"] == 1
    assert row["empty_scenes"] == 1
    assert float(metrics.accuracy(jnp.array([0.15]))[0, 1]) == 1.0


def test_fixed_splats_show_true_points_as_the_oracle_does_nearly():
    """Points of the truth as splats of one size render the new view better than grey."""
    batch = jax.tree.map(
        jnp.asarray, box_views(np.random.default_rng(0), 1, VIEWS + TARGETS, SIZE, SIZE)
    )
    waves = jnp.sin(2 * true_pointmaps(batch, 1)[:, 0])
    batch = batch.replace(images=waves)
    true = scores.oracle_prediction(batch, VIEWS)
    psnr = {}
    for name, prediction in (("oracle", true), ("fixed", scores.fixed_splats(true, batch))):
        estimate = scores.add_poses(prediction, batch, jnp.zeros(1, jnp.int32))
        draw = functools.partial(scores.novel_views, sh_degree=0, max_scale=1.0)
        images = jax.jit(draw)(estimate, batch)
        psnr[name] = float(scores.score_images_plain(images, waves[:, VIEWS:])["psnr_db"][0])
    grey = scores.score_images_plain(jnp.zeros_like(images), waves[:, VIEWS:])["psnr_db"][0]
    assert psnr["fixed"] > grey + 3
    assert psnr["fixed"] > psnr["oracle"] - 5
