"""The planner's programs: what it compiles for chips elsewhere, compiled for this machine's."""

import jax
import pytest

from configs import tiny
from mvdust3r_jax import VARIANTS, ModelConfig
from tools import tpu_plan

NETWORK = ModelConfig(16, 1, 1, 16, 1, 1, patch=4, skip=False, gaussians=False)


@pytest.mark.parametrize("way, slices", [("pmap", 1), ("fsdp", 2)])
def test_training_and_evaluation_are_both_counted(monkeypatch, way, slices):
    """Two programs, each with an account of its memory; the state is an argument of both."""
    monkeypatch.setitem(VARIANTS, "planned", NETWORK)
    config = tiny.get_config()
    config.variant, config.parallel, config.slices, config.num_refs = "planned", way, slices, 1
    config.data.height = config.data.width = 8
    config.data.num_targets = 0
    compiled = tpu_plan.compile_for(config, jax.devices(), 1, 2, "O2")
    sizes = [program.memory_analysis().argument_size_in_bytes for program in compiled]
    assert len(sizes) == 2 and min(sizes) > 10_000


def test_a_plan_takes_the_place_of_the_same_one_alone():
    """Another way to gather is another row."""
    step = dict.fromkeys(tpu_plan.SETTINGS, 1) | {"gather": "step", "peak_gib": 3.0}
    layer, again = step | {"gather": "layer"}, step | {"peak_gib": 4.0}
    assert tpu_plan.with_row([step, layer], again) == [layer, again]
