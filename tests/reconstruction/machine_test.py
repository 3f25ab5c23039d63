"""What is known of the machine: its key, and the type of numbers chosen by measured rates."""

import pytest

from mvdust3r_jax.reconstruction import machine
from mvdust3r_jax.storage import user_cache


@pytest.fixture(autouse=True)
def nothing_known():
    """No rate and no key of this process."""
    machine.flops_per_second.cache_clear()
    machine.machine_key.cache_clear()
    yield
    machine.flops_per_second.cache_clear()
    machine.machine_key.cache_clear()


@pytest.mark.parametrize(
    ("has", "ratio", "wanted"),
    [
        (["avx512_bf16"], 3.0, "bfloat16"),
        (["amx_bf16"], 1.2, "float32"),
        (["avx2"], 3.0, "float32"),
    ],
)
def test_bfloat16_where_it_is_much_faster(monkeypatch, has, ratio, wanted):
    """By the rates that were measured, on processors that have instructions for it at all."""
    monkeypatch.setattr(machine, "WORTH_BFLOAT16", 2.5)
    monkeypatch.setattr(machine, "features", lambda: has)
    rates = {"float32": 1e11, "bfloat16": ratio * 1e11}
    monkeypatch.setattr(machine, "flops_per_second", rates.get)
    assert machine.default_dtype() == wanted


def test_rates_are_measured_once(monkeypatch, tmp_path):
    """They are kept for later processes; what is no rate is measured anew."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    user_cache.switch_on()
    rates = iter([1e11, 2e11])
    monkeypatch.setattr(machine, "measured_flops_per_second", lambda dtype: next(rates))
    for content in (None, None, b'"nonsense"'):
        machine.flops_per_second.cache_clear()
        if content:
            (entry,) = (tmp_path / "mvdust3r_jax" / "machine").iterdir()
            user_cache.write("machine", entry.name, content)
        rate = machine.flops_per_second("float32")
        assert rate == (1e11 if content is None else 2e11)


def test_other_features_are_another_machine(monkeypatch):
    """Machine code of a processor with other instructions is never loaded."""
    keys = set()
    for flags in ("fpu avx2", "fpu avx2 avx512f"):
        monkeypatch.setattr(machine, "processor", lambda f=flags: {"flags": f, "model": "1"})
        machine.machine_key.cache_clear()
        keys.add(machine.machine_key())
    assert len(keys) == 2
