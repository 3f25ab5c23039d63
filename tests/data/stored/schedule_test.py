"""Which samples a stream shows, in which order, and from where it goes on."""

import json
import shutil

import numpy as np
import pytest

from data.mixture import make_train_iterator
from data.stored.made_from import RECORD
from data.stored.reader import TrajectorySet
from data.stored.schedule import Schedule, slot_of_step
from tests.data.stored.boxes_set import TRAJECTORIES, assert_equal, config, take


def test_the_seed_decides_everything_and_threads_nothing(folder):
    """Equal seeds and other thread counts give equal batches; another seed others."""
    one = take(make_train_iterator(config(folder), seed=5, batch_size=2), 4)
    same = take(make_train_iterator(config(folder, threads=1), seed=5, batch_size=2), 4)
    other = take(make_train_iterator(config(folder), seed=6, batch_size=2), 4)
    assert_equal(one, same)
    assert [info["ids"] for _, info in one] != [info["ids"] for _, info in other]


def test_position_is_restored_exactly_in_the_middle_of_an_epoch(folder):
    """Through JSON, in a new iterator and in the same one; also with several view counts."""
    cfg = config(folder, num_inputs=(4, 6), num_targets=1)
    iterator = make_train_iterator(cfg, seed=1, batch_size=3)
    take(iterator, 5)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = take(iterator, 4)
    resumed = make_train_iterator(cfg, seed=1, batch_size=3)
    resumed.set_state(state)
    assert_equal(take(resumed, 4), expected)
    iterator.set_state(state)
    assert_equal(take(iterator, 4), expected)


def test_position_of_another_stream_is_refused(folder):
    """A changed seed or other numbers of views would silently repeat or lose samples."""
    state = make_train_iterator(config(folder), seed=1, batch_size=3).get_state()
    for cfg, seed in ((config(folder), 2), (config(folder, num_inputs=(5,)), 1)):
        with pytest.raises(ValueError, match="other sources"):
            make_train_iterator(cfg, seed=seed, batch_size=3).set_state(state)


def test_position_goes_on_where_a_data_set_was_moved_to(folder, tmp_path, monkeypatch):
    """The same set below another folder; one of another name or length is refused."""
    iterator = make_train_iterator(config(folder), seed=1, batch_size=3)
    take(iterator, 2)
    state = iterator.get_state()
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / folder.name)
    resumed = make_train_iterator(config(moved), seed=1, batch_size=3)
    resumed.set_state(state)
    assert_equal(take(resumed, 3), take(iterator, 3))
    renamed = shutil.copytree(folder, tmp_path / "renamed")
    with pytest.raises(ValueError, match="other sources"):
        make_train_iterator(config(renamed), seed=1, batch_size=3).set_state(state)
    monkeypatch.setattr(
        "data.stored.reader.TrajectorySet.__len__", lambda self: len(self.inputs) - 1
    )
    with pytest.raises(ValueError, match="other sources"):
        make_train_iterator(config(moved), seed=1, batch_size=3).set_state(state)


def test_a_data_set_that_was_built_anew_is_another(folder, tmp_path):
    """Of the same name and length; positions that do not say what theirs was are taken."""
    state = make_train_iterator(config(folder), seed=1, batch_size=3).get_state()
    again = shutil.copytree(folder, tmp_path / folder.name)
    made_from = json.loads((again / RECORD).read_text())
    (again / RECORD).write_text(json.dumps(made_from | {"files": {"0": "another"}}))
    rebuilt = make_train_iterator(config(again), seed=1, batch_size=3)
    with pytest.raises(ValueError, match="were built anew since"):
        rebuilt.set_state(state)
    del state["made_from"]
    rebuilt.set_state(state)


def test_every_trajectory_once_before_any_twice(folder):
    """An epoch over one stream is a permutation, and the next one another."""
    batches = take(make_train_iterator(config(folder), seed=0, batch_size=4), 10)
    ids = [i for _, info in batches for i in info["ids"]]
    assert len(set(ids[:20])) == 20 == 2 * TRAJECTORIES
    assert sorted(ids[:20]) == sorted(ids[20:]) and ids[:20] != ids[20:]


def test_each_number_of_views_has_its_own_order(folder):
    """Else a trajectory would come with four views and at once again with six."""
    sets = [TrajectorySet(folder, "train")]
    place = dict(seed=0, batch_size=1, process_index=0, process_count=1)
    schedule = Schedule(config(folder, num_inputs=(4, 6)), sets, **place)
    tickets = [schedule[i] for i in range(4 * TRAJECTORIES)]
    four, six = ([t.trajectory for t in tickets if t.num_inputs == n] for n in (4, 6))
    assert sorted(four) == sorted(six) and np.sum(np.equal(four, six)) < TRAJECTORIES


def test_processes_share_an_epoch_without_overlap(folder):
    """Two processes see disjoint halves, the same numbers of views at every step."""
    cfg = config(folder, num_inputs=(4, 6))
    streams = [
        take(make_train_iterator(cfg, seed=0, batch_size=2, process_index=p, process_count=2), 10)
        for p in range(2)
    ]
    shapes = [[batch.images.shape for batch, _ in stream] for stream in streams]
    assert shapes[0] == shapes[1]
    # Five batches of each view count, four samples of both processes in each: one epoch.
    of_six = [
        i
        for stream in streams
        for batch, info in stream
        if batch.images.shape[1] == 7
        for i in info["ids"]
    ]
    assert len(set(of_six)) == 20


def test_view_counts_come_equally_often_and_in_random_order():
    """Blocks of all entries; a jitted step sees only these shapes."""
    slots = [slot_of_step(3, step, 4) for step in range(400)]
    assert all(sorted(slots[i : i + 4]) == [0, 1, 2, 3] for i in range(0, 400, 4))
    assert len({tuple(slots[i : i + 4]) for i in range(0, 400, 4)}) > 12


def test_targets_are_covered_by_the_inputs_in_use(folder):
    """With four inputs only the first target qualifies; two targets need all six inputs."""
    make_train_iterator(config(folder, num_inputs=(6,), num_targets=2), seed=0, batch_size=1)
    with pytest.raises(ValueError, match="none of 20 trajectories has 4 inputs that cover 2"):
        make_train_iterator(config(folder, num_targets=2), seed=0, batch_size=1)
    with pytest.raises(ValueError, match="none of 20 trajectories has 7 inputs"):
        make_train_iterator(config(folder, num_inputs=(7,)), seed=0, batch_size=1)


def test_mixture_keeps_its_weights(folder, tmp_path):
    """Of two data sets with weights 1 and 3, a quarter and three quarters of the samples."""
    second = tmp_path / "second"
    shutil.copytree(folder, second)
    cfg = config(folder, sources=((str(folder), 1.0), (str(second), 3.0)))
    batches = take(make_train_iterator(cfg, seed=0, batch_size=4), 10)
    names = [i.split("/")[0] for _, info in batches for i in info["ids"]]
    assert names.count("second") == 30
