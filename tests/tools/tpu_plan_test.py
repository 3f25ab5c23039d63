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
    compiled = tpu_plan.compile_for(config, jax.devices(), 1, 2, 0.0)
    sizes = [program.memory_analysis().argument_size_in_bytes for program in compiled]
    assert len(sizes) == 2 and min(sizes) > 10_000


_PROGRAM = """HloModule step

%body (x: f32[8]) -> f32[8] {
  %g = (bf16[2,4], f32[3]) all-gather(%a, %b), replica_groups={{0,1}}, dimensions={0}
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %r = (f32[10]{0:T(128)}, f32[5]) all-reduce(%a, %b), to_apply=%sum
  %s = f32[3] reduce-scatter(%c), replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
  %t = f32[3] reduce-scatter(%c), replica_groups=[2,4]<=[8], dimensions={0}
  %u = ((f32[1], f32[2]), (f32[4], f32[8])) all-gather-start(%d, %e), dimensions={0}
  %w = f32[8] while(%x), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"5"}}
}
"""


def test_all_arrays_of_a_collective_are_counted():
    """An all-reduce twice, a scatter's operands, a gather's results, a loop as often as it runs."""
    expected = 2 * 4 * (10 + 5) + 2 * 4 * 3 * 4 + 4 * (4 + 8) + 5 * (2 * 8 + 4 * 3)
    assert tpu_plan.interconnect_bytes(_PROGRAM) == expected
