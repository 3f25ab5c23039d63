"""What steps achieve: utilization, pixels a second, goodput across restarts."""

import json

import pytest

from mvdust3r_jax import VARIANTS
from mvdust3r_jax.models.chips import peak_flops
from mvdust3r_jax.models.flops import forward_flops
from mvdust3r_jax.training import rates
from mvdust3r_jax.training.rates import Cost, Goodput, Rates

COST = Cost(VARIANTS["tiny"], num_refs=4, num_targets=1)
SHAPE = (2, 4, 5, 32, 48, 3)  # devices, samples, views, pixels


def test_utilization_is_three_forward_passes_over_what_all_devices_could_do(monkeypatch):
    """Two steps of 8 samples in 4 seconds on 8 devices; then the interval begins anew."""
    monkeypatch.setattr(rates, "peak_flops", {"cpu": 1e9}.get)
    counted = Rates(COST)
    for _ in range(2):
        counted.count(8, SHAPE)
    told = counted.report(4.0)
    one = forward_flops(COST.network, views=4, num_refs=4, height=32, width=48, all_paths=True)
    assert told["mfu"] == pytest.approx(3 * 16 * one["total"] / 4 / 8e9)
    assert told["model_tflops_per_s"] == pytest.approx(3 * 16 * one["total"] / 4 / 1e12)
    assert told["view_pixels_per_s"] == 16 * 5 * 32 * 48 / 4
    assert counted.report(1.0)["mfu"] == 0


def test_without_a_known_peak_there_is_no_utilization():
    """A CPU: only what was done."""
    counted = Rates(COST)
    counted.count(8, SHAPE)
    assert "mfu" not in counted.report(1.0) and counted.report(1.0)["model_tflops_per_s"] == 0


def test_no_more_paths_than_views():
    """Of two views at most two are references."""
    assert COST.flops(1, (1, 3, 32, 48, 3)) == Cost(COST.network, 2, 1).flops(1, (1, 3, 32, 48, 3))


@pytest.mark.parametrize(
    "kind, peak",
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40", 181e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("TPU v6e", 918e12),
        ("cpu", None),
        ("NVIDIA A1000", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("TPU v4 lite", None),
    ],
)
def test_peaks_are_found_by_kind(kind, peak):
    """Chips whose names only begin alike, and parts of a chip, are not taken for the whole one."""
    assert peak_flops(kind) == peak


def test_goodput_counts_the_time_in_which_a_run_was_away(tmp_path, monkeypatch):
    """40 good seconds of 100; started again after 100 more, 10 more good ones in 50."""
    clock = iter([0.0, 100.0, 250.0])
    monkeypatch.setattr(rates.time, "time", lambda: next(clock))
    path = tmp_path / "metrics.jsonl"
    first = Goodput.of(path).report(40.0)
    assert first["goodput"] == pytest.approx(0.4)
    path.write_text(json.dumps({"step": 1}) + "\n" + json.dumps({"step": 2} | first) + "\n")
    assert Goodput.of(path).report(10.0)["goodput"] == pytest.approx(50 / 250)


def test_a_clock_that_was_set_back_makes_no_wonder_of_goodput(monkeypatch):
    """A share is at most 1."""
    clock = iter([1000.0, 10.0])
    monkeypatch.setattr(rates.time, "time", lambda: next(clock))
    assert Goodput().report(40.0)["goodput"] == 1
