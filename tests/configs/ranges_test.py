"""Values that no run can mean are refused before anything starts, each in one line."""

import math

import ml_collections
import pytest

from configs import build, defaults
from mvdust3r_jax.training import objective
from mvdust3r_jax.training.run import spread_by

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    "name, value",
    [
        ("keep_checkpoints", 0),
        ("log_every", -1),
        ("eval_batches", 0),
        ("eval_every", -1),
        ("max_skipped_in_row", 0),
        ("stall_minutes", NAN),
        ("stall_minutes", INF),
        ("save_minutes", INF),
        ("seed", -1),
        ("seed", 2**32),
        ("freeze", ("[",)),
        ("freeze", (1,)),
        ("total_steps", 0),
        ("peak_lr", -1.0),
        ("peak_lr", NAN),
        ("final_lr", INF),
        ("b1", 2.0),
        ("weight_decay", -1.0),
        ("clip_norm", NAN),
        ("sh_degree", 5),
        ("remat", "foo"),
        ("remat", "True"),
        ("num_refs", -1),
        ("loss.confidence", INF),
        ("loss.render_paths", -1),
        ("loss.render_views", -1),
        ("mesh", (0, 0)),
        ("mesh", (0,)),
        ("mesh", (7, 3)),
        ("slices", 0),
        ("slices", 3),
        ("data.batch_size", 0),
        ("data.num_targets", -1),
        ("data.num_inputs", ()),
        ("data.num_inputs", (4, 0)),
        ("data.num_inputs", (1,)),
        ("data.baseline", (1.5, 0.5)),
        ("data.baseline", (1.0,)),
        ("data.seed", -1),
        ("data.seed", 2**32),
        ("data.prefetch", 0),
        ("data.mixture", ("DATA/rgbd",)),
        ("data.mixture", (("DATA/rgbd", NAN),)),
        ("eval.held_out.batch_size", -2),
        ("eval.held_out.num_inputs", (4, 1)),
    ],
)
def test_nonsense_is_refused(name, value):
    """The message is one line that names the field and quotes what came."""
    config = ml_collections.ConfigDict(defaults.get_config().to_dict())
    *path, last = name.split(".")
    place = config
    for step in path:
        place = place[step]
    place[last] = value
    with pytest.raises(ValueError) as error:
        build.check(config)
    told = str(error.value)
    assert last in told and "\n" not in told
    came = value[0] if last in ("mixture", "freeze") else value
    assert (came if isinstance(came, str) else repr(came)) in told


def test_a_loss_of_no_term_is_refused():
    """Nothing would be learned; one weight is enough."""
    config = defaults.get_config()
    config.warmup_steps, config.loss.confidence = 0, 0.0
    with pytest.raises(ValueError, match="no term of config.loss has a weight"):
        build.check(config)
    config.loss.rgb = 1.0
    build.check(config)


@pytest.mark.parametrize("fields", [{"mesh_shape": (2, 1)}, {"mesh_shape": (0, 2)}, {"slices": 2}])
def test_pmap_passes_nothing_over(fields):
    """What it does not use is an error, not silence."""
    devices = [object()] * 3
    with pytest.raises(ValueError, match="are for parallel='fsdp'"):
        spread_by("pmap", devices=devices, **fields)


def test_terms_may_be_added_from_outside(monkeypatch):
    """A term that another program has added to the table may have a weight."""
    config = defaults.get_config().unlock()
    config.loss.mine = 1.0
    with pytest.raises(ValueError, match="unknown loss terms mine; there are confidence"):
        build.objective(config)
    monkeypatch.setitem(objective.POINT_TERMS, "mine", objective.regression)
    assert "mine" in build.objective(config).weights
