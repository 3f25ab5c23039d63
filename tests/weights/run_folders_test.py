"""A training run as weights: which of its states is taken, and what it was trained on."""

import dataclasses
import json
import re

import optax
import pytest

from mvdust3r_jax.weights import files as weight_files
from tests.weights.small_network import CONFIG, assert_equal, numbers


def test_a_training_run_gives_its_averaged_weights(tmp_path):
    """The best checkpoint goes before the newest, averages before the last step's parameters."""
    checkpoint = pytest.importorskip("mvdust3r_jax.training.checkpoint")
    from mvdust3r_jax.training.state import StepConfig, init_state

    run = checkpoint.Checkpoints(tmp_path, CONFIG, "{}")
    variables, newer = numbers(CONFIG, 0), numbers(CONFIG, 1)
    plain = init_state(newer, optax.sgd(0.1), StepConfig(average_decay=0.0), 0)
    assert run.save(5, plain, {})
    averaged = init_state(variables, optax.sgd(0.1), StepConfig(average_decay=0.9), 0)
    best = dataclasses.replace(averaged, params=newer["params"])
    assert run.save_if_best(5, lambda: best, {}, "loss", 1.0)
    run.close()
    config, loaded = weight_files.load_weights(tmp_path)
    assert config == CONFIG
    assert_equal(loaded, variables)
    last = weight_files.load_weights(tmp_path / "checkpoints" / "5")[1]
    assert_equal(last["params"], newer["params"])


@pytest.mark.parametrize("decay, field", [(0.9, "average"), (0.0, "params")])
def test_damaged_weights_of_a_training_run_are_not_used(tmp_path, decay, field):
    """The array that is not what the run wrote is named; what it says of other fields is not."""
    checkpoint = pytest.importorskip("mvdust3r_jax.training.checkpoint")
    from mvdust3r_jax.training.state import StepConfig, init_state

    run = checkpoint.Checkpoints(tmp_path, CONFIG, "{}")
    state = init_state(numbers(CONFIG, 0), optax.sgd(0.1), StepConfig(average_decay=decay), 0)
    assert run.save(5, state, {})
    run.close()
    weight_files.load_weights(tmp_path)
    path = tmp_path / "checkpoints/5/meta/metadata"
    meta = json.loads(path.read_text())
    name = next(name for name in meta["checksums"] if name.startswith(f".{field}"))
    meta["checksums"] |= {name: meta["checksums"][name] ^ 1, ".opt_state[0]": 1}
    path.write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=rf"5 cannot be read \({re.escape(name)}: not what was"):
        weight_files.load_weights(tmp_path)


def test_a_training_run_says_what_it_was_trained_on(tmp_path):
    """The size of its images, and the most views of its batches."""
    (tmp_path / "checkpoints/20/meta").mkdir(parents=True)
    config = {"data": {"height": 32, "width": 48, "num_inputs": [4, 12, 8]}}
    meta = tmp_path / "checkpoints/20/meta/metadata"
    meta.write_text(json.dumps({"config": json.dumps(config)}))
    assert weight_files.trained_on(tmp_path) == ((32, 48), 12)


@pytest.mark.parametrize("split, chosen", [("test", "checkpoints/20"), ("validation", "best/10")])
def test_what_was_selected_on_test_is_passed_over(tmp_path, split, chosen):
    """The newest is taken then: the best one has seen what it will be tested on."""
    for step in ("best/10", "checkpoints/20"):
        folder = tmp_path / step / "meta"
        folder.mkdir(parents=True)
        config = {"eval": {"held_out": {"split": split}, "other": {"split": "test"}}}
        (folder / "metadata").write_text(json.dumps({"config": json.dumps(config), "at": step}))
    assert weight_files.digest(tmp_path) == weight_files.digest(tmp_path / chosen)
