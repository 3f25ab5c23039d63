"""Records: what has no value, and folders that hold another evaluation."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import eval as program
from configs import eval_records, eval_rooms
from data.stored.made_from import RECORD
from mvdust3r_jax.evaluation import records
from mvdust3r_jax.evaluation.sets import save_split
from mvdust3r_jax.training.one_run import alone_in
from tests.json_files import forget


def with_records(folder):
    """A folder in which something was evaluated."""
    records.append(folder / "metrics.jsonl", [{"dataset": "d"}])
    return folder


def test_what_has_no_value_survives_json():
    """NaN and infinities come back."""
    for value in (1.5, float("inf"), -float("inf")):
        assert records.decode(json.loads(json.dumps(records.encode(value)))) == value
    assert np.isnan(records.decode(records.encode(float("nan"))))


def test_a_folder_takes_no_other_evaluation(tmp_path):
    """Other weights and another number of new views are refused; more rounds are welcome."""
    records.claim(with_records(tmp_path), {"weights": "a"}, {"4": 1}, {})
    records.claim(tmp_path, {"weights": "a"}, {"8": 2}, {})
    with pytest.raises(ValueError, match="weights: a there, b here"):
        records.check_same_run(tmp_path, {"weights": "b"}, {})
    with pytest.raises(ValueError, match="num_targets of 8 views: 2 there, 3 here"):
        records.check_same_run(tmp_path, {"weights": "a"}, {"4": 1, "8": 3})


def test_data_that_was_built_anew_is_another_evaluation(tmp_path):
    """Of the same path; records of versions that did not say what the data were go on."""
    config = eval_records.get_config()
    config.datasets.held_out.folder = str(tmp_path)
    records.claim(with_records(tmp_path), program.facts_of(config, ""), {}, {})
    (tmp_path / RECORD).write_text("{}")
    with pytest.raises(ValueError, match="data: {'held_out': ''} there, {'held_out': '.+'} here"):
        records.check_same_run(tmp_path, program.facts_of(config, ""), {})
    forget(tmp_path / "eval.json", "data")
    records.check_same_run(tmp_path, program.facts_of(config, ""), {})


def test_a_split_file_that_was_edited_is_another_evaluation(tmp_path):
    """Of the same path, but for the order; records of versions that kept no digest go on."""
    config, path = eval_rooms.get_config(), tmp_path / "split.json"
    config.datasets.rooms.split_file = str(path)
    save_split(path, "rooms", ["a", "b"])
    records.claim(with_records(tmp_path), program.facts_of(config, ""), {}, {})
    save_split(path, "rooms", ["b", "a"])
    records.check_same_run(tmp_path, program.facts_of(config, ""), {})
    save_split(path, "rooms", ["a", "c"])
    with pytest.raises(ValueError, match="different: split_ids: {'rooms': '.+'} there, "):
        records.check_same_run(tmp_path, program.facts_of(config, ""), {})
    forget(tmp_path / "eval.json", "split_ids")
    records.check_same_run(tmp_path, program.facts_of(config, ""), {})


def test_records_of_other_trajectories_are_another_evaluation(tmp_path):
    """Also where no digest tells; those of rounds that are not planned now are welcome."""
    key = {"dataset": "d", "method": "mvd"}
    found = [key | {"views": v, "id": i} for v, i in ((4, "a"), (4, "b"), (8, "c"))]
    records.append(tmp_path / "metrics.jsonl", found)
    records.check_ids(tmp_path, {("d", 4): ["a", "b", "new"]})
    with pytest.raises(ValueError, match="d at 4 views: 'b' there, which is none of the 2 here"):
        records.check_ids(tmp_path, {("d", 4): ["a", "new"]})


def test_a_folder_without_records_is_nobodys(tmp_path):
    """What was begun and failed before its first record does not refuse the next try."""
    records.claim(tmp_path, {"weights": "a"}, {"4": 1}, {"skipped": {"mvdp": "why"}})
    records.claim(tmp_path, {"weights": "b"}, {"4": 2}, {})
    records.check_same_run(with_records(tmp_path), {"weights": "b"}, {"4": 2})
    with pytest.raises(ValueError, match="weights: b there, a here"):
        records.check_same_run(tmp_path, {"weights": "a"}, {"4": 2})


def test_notes_of_earlier_runs_stay(tmp_path):
    """A run of other methods keeps what an earlier one said of its own."""
    with_records(tmp_path)
    for method in ("mvdp", "mvdp_best"):
        records.claim(tmp_path, {}, {}, {"skipped": {method: "why"}})
    assert records.run_facts(tmp_path)["skipped"] == {"mvdp": "why", "mvdp_best": "why"}


def test_two_evaluations_at_a_time_are_refused(tmp_path):
    """Each would write a record of the same scenes."""
    config = eval_rooms.get_config()
    config.methods, config.views, config.datasets.rooms.count = "constant", "2", 1
    given = {"config": config, "coordinator": "", "distributed": False, "weights": ""}
    with alone_in(tmp_path), pytest.raises(SystemExit, match="another run is writing there"):
        program.main(SimpleNamespace(**given, workdir=str(tmp_path)))


def test_a_scene_that_two_runs_have_written_counts_once(tmp_path):
    """The first record of it; times, which have no scene, all count."""
    key = dict(zip(records.KEYS, ("boxes", 4, "mvd", "7"), strict=True))
    records.append(tmp_path / "metrics.jsonl", [key | {"nd": 1.0}, key | {"nd": 2.0}])
    records.append(tmp_path / "metrics.jsonl", [key | {"id": "8", "nd": 3.0}])
    assert [r["nd"] for r in records.all_records(tmp_path, "metrics")] == [1.0, 3.0]
    records.append(tmp_path / "times.jsonl", 2 * [{"method": "mvd", "seconds": {}}])
    assert len(records.all_records(tmp_path, "times")) == 2
