"""Plans: what cannot be done is said in one line; what the weights cannot serve is skipped."""

import dataclasses

import pytest

from data.eval_sets import EvalSet
from mvdust3r_jax import VARIANTS
from mvdust3r_jax.evaluation.methods import METHODS
from mvdust3r_jax.evaluation.plan import Options, listed, make_plan, view_counts
from mvdust3r_jax.models.network import Network
from tests.evaluation.boxes import box_set

FULL = Network(VARIANTS["tiny"], {})
ONE_PATH = Network(dataclasses.replace(VARIANTS["tiny"], cross_ref=False), {})
PAIRS = Network(VARIANTS["dust3r_224"], {})


def plan(*methods, sets=None, **given):
    """Of boxes at four views."""
    sets = [box_set()] if sets is None else sets
    return make_plan(methods, sets, [(4, 1)], training={"boxes": box_set()}, **given)


def test_methods_that_the_weights_cannot_serve_are_skipped():
    """Those of several paths, with the reason; the others run."""
    every = plan(*METHODS, network=ONE_PATH)
    assert set(every.skipped) == {"mvdp", "mvdp_auto", "mvdp_best"}
    assert all("cross-reference" in why for why in every.skipped.values())
    assert set(every.methods) | set(every.skipped) == set(METHODS)
    assert plan(*METHODS, network=FULL).skipped == {}


def test_pairs_by_a_multi_view_network_are_labeled():
    """Not those by weights of its own, nor by a two-view network."""
    assert "multi-view" in plan("pairwise", network=FULL).labels["pairwise"]
    assert plan("pairwise", network=FULL, pairs=ONE_PATH).labels == {}
    two_views = EvalSet("x", (32, 32), lambda v, t: ["0"], box_set().load)
    assert plan("pairwise", sets=[two_views], network=PAIRS).labels == {}


def test_pairs_take_their_own_weights():
    """And the other methods the others'."""
    found = plan("mvd", "pairwise", "constant", network=FULL, pairs=ONE_PATH).networks
    assert found == {"mvd": FULL, "pairwise": ONE_PATH}


@pytest.mark.parametrize(
    ("methods", "given", "said"),
    [
        ((), {}, "methods names none"),
        (("mvdq",), {}, "got 'mvdq'"),
        (("mvd",), {}, "'mvd' needs --weights"),
        (("constant", "constant"), {}, "differ from each other"),
        (("mvdp",), {"network": ONE_PATH}, "'mvdp' cannot run: .*cross-reference"),
        (("constant",), {"sets": []}, "no data set"),
    ],
)
def test_methods_that_cannot_run(methods, given, said):
    """None, unknown ones, networks without weights, repeated ones, none that is left."""
    with pytest.raises(ValueError, match=said):
        plan(*methods, **given)


def test_sets_that_do_not_fit():
    """Images that cannot be cut into patches, too many views, no trajectory."""
    odd = EvalSet("rooms", (18, 16), lambda v, t: ["0"], box_set().load)
    with pytest.raises(ValueError, match="18x16 cannot be cut into patches of 8x8.*'mvd'"):
        plan("mvd", sets=[odd], network=FULL)
    with pytest.raises(ValueError, match="4 views wanted"):
        plan("constant", sets=[box_set(max_views=3)])
    with pytest.raises(ValueError, match="empty has no trajectories"):
        plan("constant", sets=[EvalSet("empty", (8, 8), lambda v, t: [], box_set().load)])


@pytest.mark.parametrize(
    ("views", "targets", "said"),
    [
        ("4,8,12", "1,2", "3 entries"),
        ("4", "-1", "num_targets must be at least 0, got '-1'"),
        ("1", "0", "views must be at least 2"),
        ("", "0", "views must be at least 2"),
        ("four", "0", "whole numbers .*'four'"),
        ("4,4", "1", "differ"),
    ],
)
def test_numbers_of_views_that_make_no_sense(views, targets, said):
    """One line each."""
    with pytest.raises(ValueError, match=said):
        view_counts(views, targets)


def test_numbers_of_views():
    """One number of render-only views for all, or one for each; blanks do not matter."""
    assert view_counts("4, 8", "2") == [(4, 2), (8, 2)]
    assert view_counts("4,8", "1,2,3") == [(4, 1), (8, 2)]
    assert listed(" a, b,") == ("a", "b")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("num_refs", 0, "num_refs must be at least 1, got 0"),
        ("batch_per_device", 0, "batch_per_device must be at least 1, got 0"),
        ("pairwise_graph", "foo", "pairwise_graph must be one of .*'complete'.*got 'foo'"),
        ("chamfer", "foo", "chamfer must be one of .*'kdtree'.*got 'foo'"),
        ("devices", -1, "devices must be at least 0"),
        ("splat_px", float("nan"), "splat_px must be above 0, got nan"),
    ],
)
def test_options_that_make_no_sense(field, value, said):
    """One line each, before anything is read."""
    with pytest.raises(ValueError, match=said):
        Options(**{field: value})
