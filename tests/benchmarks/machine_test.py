"""Kept results: what one call measured is not replaced by another that measured something else."""

import pytest

from benchmarks import machine


@pytest.fixture
def results(tmp_path, monkeypatch):
    """An empty folder of results."""
    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    return tmp_path


def test_other_settings_get_a_file_of_their_own(results):
    """The first call gives the name, the same one again replaces it, another says what differs."""
    kept = {"weights": "weights/small.safetensors", "rooms": 40}
    assert machine.of_settings("moving", kept) == "moving"
    machine.write_results("moving", {"settings": kept})
    assert machine.of_settings("moving", dict(kept)) == "moving"
    other = kept | {"weights": "my runs/room mvd.safetensors"}
    assert machine.of_settings("moving", other) == "moving_weights_room-mvd"


def test_results_are_replaced_at_once(results, monkeypatch):
    """What cannot be written as JSON leaves what was there."""
    machine.write_results("x", {"value": 1})
    with pytest.raises(TypeError):
        machine.write_results("x", {"value": object()})
    assert machine.read_results("x") == {"value": 1}
    assert [path.name for path in results.iterdir()] == ["x.json"]
