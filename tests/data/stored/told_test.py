"""What is wrong with stored data is told at the start, and what was left out after each epoch."""

import json
import shutil

import pytest

import train
from configs import tiny
from data.mixture import MixedIterator, make_train_iterator
from data.stored.reader import TrajectorySet
from data.stored.write import write_dataset
from data.training_batches import make_source
from mvdust3r_jax.training.left_out import LeftOut
from mvdust3r_jax.training.metric_log import MetricLog
from mvdust3r_jax.training.processes import RunError
from tests.data.stored.boxes_set import TRAJECTORIES, Boxes, config


def run_config(folder, **fields):
    """A training run on the boxes' set."""
    made = tiny.get_config()
    made.data.source, made.data.mixture = "records", ((str(folder), 1.0),)
    made.data.num_inputs, made.data.height, made.data.width = (4,), 32, 32
    made.eval = {"held_out": {"split": "test"}}
    made.data.update(fields)
    return made


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"mixture": (("F", 0.0),)}, "positive weights, got"),
        ({"mixture": ()}, "names no data set"),
        ({"batch_size": 64}, "20 trajectories of 4 inputs and 1 targets: fewer than a batch of 64"),
        ({"num_inputs": (7,)}, "none of 20 trajectories has 7 inputs"),
        ({"split": "tests"}, "has the splits"),
        ({"mixture": (("nowhere", 1.0),)}, "nowhere is no data set"),
    ],
)
def test_data_that_cannot_be_used_is_one_line_before_anything_is_compiled(
    folder, tmp_path, monkeypatch, fields, words
):
    """The network is not even built."""
    monkeypatch.setattr(train, "prepare", None)
    mixture = fields.get("mixture", (("F", 1.0),))
    fields = fields | {"mixture": tuple((n.replace("F", str(folder)), w) for n, w in mixture)}
    with pytest.raises(RunError, match=words) as error:
        train.train(run_config(folder, **fields), tmp_path)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("config_name", ["frames", "trajectories"])
@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_a_damaged_description_is_named(folder, tmp_path, config_name, name):
    """By who reads the set, and by who would build it again; both end with one line."""
    place = shutil.copytree(folder, tmp_path / "boxes")
    (path,) = place.glob(f"{config_name}/*/{name}")
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match=f"{config_name}/1.0.0: .*{name}.* is damaged"):
        TrajectorySet(place, "train")
    with pytest.raises(
        ValueError, match=f"{config_name}.*{name}.* damaged.*remove {place}"
    ) as told:
        write_dataset(lambda c: Boxes(data_dir=tmp_path, config=c))
    assert len(str(told.value).splitlines()) == 1


def test_a_damaged_table_is_named(folder, tmp_path):
    """A bit that flipped after the build: no traceback of the reader's."""
    place = shutil.copytree(folder, tmp_path / "boxes")
    (path,) = place.glob("trajectories/*/*-train.array_record-*")
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="trajectories/1.0.0: records of train are damaged"):
        TrajectorySet(place, "train")


@pytest.mark.parametrize("damage, words", [("cut", "is cut off"), ("other", "dataset_info.json")])
def test_a_damaged_file_is_found_at_the_start(folder, tmp_path, damage, words):
    """It is named, instead of fifty failed attempts later."""
    place = shutil.copytree(folder, tmp_path / "boxes")
    (path,) = place.glob("frames/*/*-train.array_record-00000-of-*")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    else:
        shutil.copy(next(place.glob("frames/*/*-test.array_record-*")), path)
    with pytest.raises(ValueError, match=words) as error:
        TrajectorySet(place, "train")
    assert path.name in str(error.value)
    with pytest.raises(ValueError, match=f"{path.name} .*remove {place}"):
        write_dataset(lambda c: Boxes(data_dir=tmp_path, config=c))


def test_an_epoch_is_all_trajectories(folder):
    """Of one set, and of one that is mixed with rooms: those take their share of the batches."""
    records = make_train_iterator(config(folder), seed=0, batch_size=2)
    assert records.epoch_samples == 2 * TRAJECTORIES
    box = make_source("box", batch_size=1, process_index=0, process_count=1, **_BOX)
    assert box.epoch_samples == 0
    assert MixedIterator([records, box], [0.25, 0.75], 0).epoch_samples == 8 * TRAJECTORIES


_BOX = {"num_inputs": (2,), "num_targets": 0, "height": 8, "width": 8, "seed": 0}


def test_what_was_left_out_is_told_after_each_epoch(tmp_path):
    """How many and why, at the step in which an epoch ends, counted from where the run resumed."""
    log = MetricLog(tmp_path, 0, tensorboard=False)
    left_out = LeftOut(log, epoch_samples=10, seen=4)
    for step, lines in enumerate((["a"], ["a", "b"], [], ["c"], []), start=1):
        left_out.after(step, 4, {"skipped": lines})
    log.close()
    records = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    told = [(r["step"], r["epoch"], r["left_out"], r["reasons"]) for r in records]
    assert told == [(2, 1, 3, {"a": 2, "b": 1}), (4, 2, 1, {"c": 1})]


def test_made_samples_have_no_epochs(tmp_path):
    """Nothing is told of them."""
    log = MetricLog(tmp_path, 0, tensorboard=False)
    LeftOut(log, epoch_samples=0).after(1, 100, {"ids": ["x"]})
    log.close()
    assert not (tmp_path / "metrics.jsonl").read_text()
