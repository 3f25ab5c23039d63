"""Checkpoints: exact restore, nothing lost where one cannot be used, failed writes survived."""

import dataclasses
import json
import logging
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from absl import logging as absl_logging

from mvdust3r_jax import ModelConfig
from mvdust3r_jax.training.checkpoint import NEWEST, UNREADABLE, Checkpoints
from mvdust3r_jax.training.checkpoint_identity import check_same_model
from mvdust3r_jax.training.sharded import make_mesh, state_shardings
from mvdust3r_jax.training.step import TrainState

MODEL = ModelConfig(16, 1, 1, 16, 1, 1, patch=8, skip_width=8)


def state_at(step):
    """A state of which every part depends on the step."""
    key = jax.random.key(step)
    params = {"a": {"kernel": jax.random.normal(key, (64, 512))}, "b": {"bias": jnp.ones(3) * step}}
    return TrainState(
        step=jnp.int32(step),
        params=params,
        batch_stats={},
        opt_state=(jax.tree.map(lambda x: x * 2, params), jnp.int32(7)),
        average=jax.tree.map(lambda x: x * 3, params),
        skipped=jnp.int32(1),
        skipped_in_row=jnp.int32(0),
        rng=jax.random.key_data(key),
    )


def as_numpy(tree):
    return jax.tree.map(np.asarray, tree)


def abstract():
    return jax.tree.map(lambda x: np.empty(x.shape, x.dtype), state_at(0))


def opened(path, model=MODEL, **options):
    return Checkpoints(path, model, "{}", **options)


def assert_equal(tree_1, tree_2):
    jax.tree.map(np.testing.assert_array_equal, as_numpy(tree_1), as_numpy(tree_2))


@pytest.fixture
def messages():
    """What absl logs, at any level."""
    seen = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())
    absl_logging.get_absl_logger().addHandler(handler)
    yield seen
    absl_logging.get_absl_logger().removeHandler(handler)


def test_restore_is_exact_and_newest_are_kept(tmp_path):
    """State, data position and facts come back bit for bit; only the newest two stay."""
    checkpoints = opened(tmp_path, keep=2)
    assert checkpoints.restore(abstract()) is None
    for step in (1, 2, 3):
        assert checkpoints.save(step, as_numpy(state_at(step)), {"next": 10 * step})
    checkpoints.close()
    again = opened(tmp_path)
    restored = again.restore(abstract())
    assert restored.step == 3
    assert restored.data_state == {"next": 30}
    assert_equal(restored.state, state_at(3))
    assert sorted(p.name for p in (tmp_path / NEWEST).iterdir()) == ["2", "3"]
    again.close()


def test_milestones_stay_beside_the_newest(tmp_path):
    """Multiples of their interval are never removed, also by a later start."""
    checkpoints = opened(tmp_path, keep=1, milestone_every=4)
    for step in range(1, 7):
        assert checkpoints.save(step, as_numpy(state_at(step)), {})
    checkpoints.close()
    again = opened(tmp_path, keep=1, milestone_every=4)
    assert again.save(7, as_numpy(state_at(7)), {})
    again.close()
    assert sorted(p.name for p in (tmp_path / NEWEST).iterdir()) == ["4", "7"]


@pytest.mark.parametrize("every", [0, 6])
def test_milestones_stay_where_later_starts_keep_others(tmp_path, every):
    """Each checkpoint says itself that it was to stay for ever."""

    def saved(steps, every):
        settings = json.dumps({"milestone_every": every})
        checkpoints = Checkpoints(tmp_path, MODEL, settings, keep=1, milestone_every=every)
        for step in steps:
            assert checkpoints.save(step, as_numpy(state_at(step)), {})
        checkpoints.close()
        return sorted(int(p.name) for p in (tmp_path / NEWEST).iterdir())

    assert saved([4, 5, 8, 9], 4) == [4, 8, 9]
    assert saved([12, 13], every) == [4, 8, *([12] if every else []), 13]
    assert saved([16, 17], 0)[:2] == [4, 8]


def test_best_is_kept_apart_and_remembered(tmp_path):
    """Only a lower value replaces the best, also after a restart; NaN never does."""

    def save(checkpoints, step, value):
        return checkpoints.save_if_best(step, lambda: as_numpy(state_at(step)), None, "nd", value)

    checkpoints = opened(tmp_path)
    assert save(checkpoints, 1, 0.5)
    assert not save(checkpoints, 2, float("nan"))
    checkpoints.close()
    checkpoints = opened(tmp_path)
    assert not save(checkpoints, 3, 0.6)
    assert save(checkpoints, 4, 0.4)
    checkpoints.close()
    assert [p.name for p in (tmp_path / "best").iterdir()] == ["4"]


def test_best_of_another_metric_is_replaced(tmp_path):
    """Its value says nothing about this one's, also after a restart."""

    def save(checkpoints, step, name, value):
        return checkpoints.save_if_best(step, lambda: as_numpy(state_at(step)), None, name, value)

    checkpoints = opened(tmp_path)
    assert save(checkpoints, 1, "loss", -5.0)
    checkpoints.close()
    checkpoints = opened(tmp_path)
    assert save(checkpoints, 2, "nd", 0.3) and not save(checkpoints, 3, "nd", 0.4)
    checkpoints.close()
    assert [p.name for p in (tmp_path / "best").iterdir()] == ["2"]


def test_best_on_another_set_of_the_same_name_is_replaced(tmp_path):
    """Built anew since then, it says nothing about values of now."""

    def save(step, value, made_of):
        checkpoints = Checkpoints(tmp_path, MODEL, '{"eval": {"a": {}}}', sets={"a": made_of})
        kept = checkpoints.save_if_best(step, lambda: as_numpy(state_at(step)), None, "a/nd", value)
        checkpoints.close()
        return kept

    assert save(1, 0.2, "easy") and not save(2, 0.3, "easy")
    assert save(3, 0.5, "hard") and not save(4, 0.6, "hard")


def test_a_best_state_that_could_not_be_written_hides_no_other(tmp_path, messages, monkeypatch):
    """The disk is full while it is written: it is told, and the best is the one before again."""

    def save(step, value):
        return checkpoints.save_if_best(step, lambda: as_numpy(state_at(step)), None, "nd", value)

    checkpoints = opened(tmp_path)
    assert save(1, 0.5)
    checkpoints.wait()
    manager, begun = checkpoints.best._manager, []

    def full():
        if begun:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(manager, "save", lambda *_, **__: not begun.append(True))
    monkeypatch.setattr(manager, "wait_until_finished", full)
    assert save(2, 0.3)
    assert not save(3, 0.6)
    assert any("best/2 failed" in m and "No space left" in m for m in messages)
    assert "the best state is again the one before: nd = 0.5" in messages
    assert save(4, 0.4)
    checkpoints.close()
    assert [p.name for p in (tmp_path / "best").iterdir()] == ["4"]


@pytest.mark.parametrize("step", [3, 4])
def test_best_of_steps_that_are_taken_again_is_replaced(tmp_path, step):
    """A run goes on from step 2 after 4 was the best: a better 3 or 4 then lies in its place."""

    def save(step, value, made):
        return checkpoints.save_if_best(step, lambda: as_numpy(state_at(made)), None, "nd", value)

    checkpoints = opened(tmp_path)
    assert save(4, 0.5, made=4)
    checkpoints.close()
    checkpoints = opened(tmp_path)
    assert save(step, 0.4, made=9)
    checkpoints.close()
    assert [p.name for p in (tmp_path / "best").iterdir()] == [str(step)]
    checkpoints = opened(tmp_path)
    found, why = checkpoints.best.try_state(step, abstract(), {})
    assert not why and int(found.step) == 9
    assert not save(step + 1, 0.45, made=1)
    checkpoints.close()


# tensorstore's other reads of a damaged checkpoint fail after the first, with nobody to hear it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", ["no_state", "truncated", "no_meta", "empty_meta"])
def test_damaged_newest_is_named_and_moved_aside(tmp_path, damage, messages):
    """Whatever is missing from the newest one, the one before is used; the log says where it is."""
    checkpoints = opened(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, as_numpy(state_at(step)), {"next": step})
    checkpoints.close()
    folder = tmp_path / NEWEST / "2"
    if damage == "no_state":
        shutil.rmtree(folder / "state")
    elif damage == "truncated":
        largest = max((folder / "state").rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
        largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    elif damage == "no_meta":
        shutil.rmtree(folder / "meta")
    else:
        (folder / "meta" / "metadata").write_text("")
    again = opened(tmp_path)
    restored = again.restore(abstract())
    assert restored.step == 1
    assert_equal(restored.state, state_at(1))
    aside = tmp_path / UNREADABLE / f"{NEWEST}-2"
    assert aside.is_dir() and not folder.exists()
    assert any(f"{folder} cannot be read and was moved to {aside}" in m for m in messages)
    # The run then reaches step 2 again and can save it.
    assert again.save(2, as_numpy(state_at(2)), {"next": 2})
    again.close()
    assert opened(tmp_path).restore(abstract()).step == 2


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut over chips"])
def test_a_flipped_bit_is_found_and_the_one_before_used(tmp_path, cut, messages):
    """Of noise, which no compression shortens and no other check looks at."""
    checkpoints = opened(tmp_path)
    states = []
    for step in (1, 2):
        noise = np.random.default_rng(step).integers(0, 2**23, (256, 512), np.int32)
        states.append(as_numpy(state_at(step)).replace(params=noise.view(np.float32)))
        checkpoints.save(step, states[-1], None)
    checkpoints.close()
    files = [path for path in (tmp_path / NEWEST / "2" / "state").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    flip_bit(largest, largest.stat().st_size // 2)
    shapes = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), states[0])
    if cut:
        shardings = state_shardings(shapes, make_mesh((4, 2)))
        shapes = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings
        )
    restored = opened(tmp_path).restore(shapes)
    assert restored.step == 1
    assert_equal(restored.state, states[0])
    assert any(f"{NEWEST}-2 (.params: not what was written" in m for m in messages)


def flip_bit(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_checkpoint_of_another_model_is_refused(tmp_path):
    """The differing fields are listed with both values; dtype and remat may differ."""
    checkpoints = opened(tmp_path)
    checkpoints.save(1, as_numpy(state_at(1)), None)
    checkpoints.close()
    other = dataclasses.replace(MODEL, dec_dim=32, dtype="bfloat16")
    with pytest.raises(ValueError, match="another model: dec_dim: 16 there, 32 here$"):
        opened(tmp_path, other).restore(abstract())
    check_same_model(
        dataclasses.asdict(MODEL), dataclasses.replace(MODEL, remat=True), "a checkpoint"
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"average": {}}, r"average\['a'\]\['kernel'\]: \[\[64, 512\], 'float32'\] there, nothing"),
        ({"opt_state": (jnp.int32(7),)}, r"opt_state\[0\]: nothing there, \[\[\], 'int32'\]"),
        ({"skipped": jnp.float32(1)}, r"skipped: \[\[\], 'int32'\] there, \[\[\], 'float32'\]"),
    ],
    ids=["no average", "another optimizer", "another type"],
)
def test_checkpoint_of_another_state_is_refused_and_stays(tmp_path, change, named):
    """Another optimizer or average: an error with the differing arrays, and nothing is touched."""
    checkpoints = opened(tmp_path, keep=2)
    for step in (1, 2):
        checkpoints.save(step, as_numpy(state_at(step)), None)
    checkpoints.close()
    other = as_numpy(state_at(0).replace(**change))
    with pytest.raises(ValueError, match=f"{NEWEST}/2 holds another state.*{named}") as error:
        opened(tmp_path).restore(other)
    assert "average_decay" in str(error.value)
    assert opened(tmp_path).restore(abstract()).step == 2


def test_where_nothing_can_be_read_nothing_is_moved(tmp_path):
    """The error comes each time it is tried, and advises against the old best/ beside a new run."""
    checkpoints = opened(tmp_path)
    checkpoints.save(1, as_numpy(state_at(1)), None)
    checkpoints.close()
    (tmp_path / NEWEST / "1" / "meta" / "metadata").write_text("")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"can be read \(1: JSON.*another workdir.*best/"):
            opened(tmp_path).restore(abstract())


def test_checkpoint_without_a_described_state_is_restored(tmp_path):
    """One written before the field existed."""
    checkpoints = opened(tmp_path)
    checkpoints.save(1, as_numpy(state_at(1)), None)
    checkpoints.close()
    path = tmp_path / NEWEST / "1" / "meta" / "metadata"
    path.write_text(re.sub(r', "(tree|checksums)": \{[^{}]*\}', "", path.read_text()))
    assert not re.search("tree|checksums", path.read_text())
    assert opened(tmp_path).restore(abstract()).step == 1


def test_failed_write_is_reported_and_the_run_goes_on(tmp_path, messages, monkeypatch):
    """No space: save says so, the last good checkpoint stays, and a later save works."""
    checkpoints = opened(tmp_path)
    checkpoints.save(1, as_numpy(state_at(1)), None)
    checkpoints.wait()

    save, broken = ocp.CheckpointManager.save, []

    def full(manager, *arguments, **options):
        """The manager of the failed write is of no use any more."""
        broken.append(manager)
        if manager is broken[0]:
            raise OSError(28, "No space left on device")
        return save(manager, *arguments, **options)

    monkeypatch.setattr(ocp.CheckpointManager, "save", full)
    assert not checkpoints.save(2, as_numpy(state_at(2)), None)
    assert any("checkpoints/2 failed" in m and "No space left" in m for m in messages)
    assert checkpoints.save(3, as_numpy(state_at(3)), None)
    checkpoints.close()
    assert sorted(p.name for p in (tmp_path / NEWEST).iterdir()) == ["1", "3"]


def test_a_place_that_is_away_for_a_while_costs_its_saves_alone(tmp_path, monkeypatch):
    """Neither writing nor looking at the folder works: once it does, the next save does, too."""
    checkpoints = opened(tmp_path)
    checkpoints.save(1, as_numpy(state_at(1)), None)
    checkpoints.wait()

    def away(*_, **__):
        raise RuntimeError("503")

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "save", away)
        patch.setattr(ocp.CheckpointManager, "__init__", away)
        assert not checkpoints.save(2, as_numpy(state_at(2)), None)
        assert not checkpoints.save(3, as_numpy(state_at(3)), None)
        assert checkpoints.newest_step() == 0
    assert checkpoints.save(4, as_numpy(state_at(4)), None)
    checkpoints.close()
    assert sorted(p.name for p in (tmp_path / NEWEST).iterdir()) == ["1", "4"]


@pytest.mark.parametrize("facts", ["null", "{}", "[1]"])
def test_facts_that_are_not_a_runs_are_no_checkpoint(tmp_path, facts):
    """The checkpoint before is taken."""
    checkpoints = opened(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, as_numpy(state_at(step)), {})
    checkpoints.close()
    (tmp_path / NEWEST / "2" / "meta" / "metadata").write_text(facts)
    again = opened(tmp_path)
    assert again.restore(abstract()).step == 1
    again.close()


def test_restores_onto_another_number_of_devices(tmp_path):
    """Saved from one device, restored sharded over eight, and back."""
    checkpoints = opened(tmp_path)
    checkpoints.save(1, as_numpy(state_at(1)), None)
    checkpoints.wait()
    mesh = make_mesh((8, 1))
    sharded = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        abstract(),
        state_shardings(abstract(), mesh),
    )
    state = checkpoints.restore(sharded).state
    assert len(state.params["a"]["kernel"].sharding.device_set) == 8
    assert_equal(state, state_at(1))
    checkpoints.save(2, state, None)
    checkpoints.wait()
    assert_equal(checkpoints.restore(abstract()).state, state_at(1))
    checkpoints.close()
