"""Bytes of collectives, counted in a program written by hand."""

from tools.interconnect import interconnect_bytes

_PROGRAM = """HloModule step

%body (x: f32[8]) -> f32[8] {
  %g = (bf16[2,4], f32[3]) all-gather(%a, %b), replica_groups={{0,1}}, dimensions={0}
}

%counted (p: (s32[], f32[8])) -> pred[] {
  %constant.1 = s32[]{:T(128)} constant(7), metadata={op_name="step"}
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %lt.1 = pred[]{:T(512)} compare(%i, %constant.1), direction=LT, metadata={op_name="lt"}
}

%until (p: (s32[], f32[8])) -> pred[] {
  ROOT %done = pred[] get-tuple-element(%p), index=2
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %r = (f32[10]{0:T(128)}, f32[5]) all-reduce(%a, %b), to_apply=%sum
  %s = f32[3] reduce-scatter(%c), replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
  %t = f32[3] reduce-scatter(%c), replica_groups=[2,4]<=[8], dimensions={0}
  %u = ((f32[1], f32[2]), (f32[4], f32[8])) all-gather-start(%d, %e), dimensions={0}
  %w = f32[8] while(%x), condition=%until, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %v = f32[8] while(%x), condition=%counted, body=%body
  %z = f32[8] while(%x), condition=%until, body=%body
}
"""


def test_all_arrays_of_a_collective_are_counted():
    """An all-reduce twice, a scatter's operands, a gather's results, a loop as often as it runs."""
    expected = 2 * 4 * (10 + 5) + 2 * 4 * 3 * 4 + 4 * (4 + 8) + (5 + 7 + 1) * (2 * 8 + 4 * 3)
    assert interconnect_bytes(_PROGRAM) == expected
