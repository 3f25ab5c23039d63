"""A resumed run says what was changed; what changes the meaning of its numbers must be allowed."""

import json

import pytest

from configs import tiny
from mvdust3r_jax.training.changed_settings import (
    MAY_CHANGE,
    changed_settings,
    compare_settings,
    judged_alike,
    must_be_allowed,
)
from mvdust3r_jax.training.processes import RunError


def saved(**fields):
    """The tiny config with these fields, as a checkpoint holds it."""
    config = tiny.get_config()
    config.update_from_flattened_dict(fields)
    return config.to_json_best_effort()


def test_every_field_that_may_change_exists():
    """A renamed field must not silently become one that needs the flag."""
    config = tiny.get_config().to_dict()
    for name in MAY_CHANGE:
        part, _, field = name.rpartition(".")
        assert field in (config[part] if part else config), name


@pytest.mark.parametrize(
    "fields",
    [
        {"peak_lr": 1e-2},
        {"data.batch_size": 16},
        {"seed": 3},
        {"data.seed": 3},
        {"loss.rgb": 1.0},
        {"num_refs": 1},
        {"total_steps": 999},
        {"dtype": "bfloat16"},
        {"best_metric": "loss"},
        {"eval.held_out.split": "test"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_changes_the_numbers_must_be_allowed(fields):
    """The error names the field with both values and the way out; with the flag it is recorded."""
    ((name, value),) = fields.items()
    with pytest.raises(RunError, match=f"since step 7 .*{name}: .* now.*--allow_changes"):
        compare_settings(saved(**fields), saved(), 7, allow_changes=False)
    changes = compare_settings(saved(**fields), saved(), 7, allow_changes=True)
    assert list(changes) == [name] and changes[name][0] == value


def test_a_term_that_the_checkpoint_s_version_did_not_know_had_no_weight():
    """Given one now it changes what is trained; without one nothing is told."""
    older = json.loads(saved())
    del older["loss"]["sh_color"]
    older = json.dumps(older)
    with pytest.raises(RunError, match="loss.sh_color: 0.0 before, 1.0 now"):
        compare_settings(older, saved(**{"loss.sh_color": 1.0}), 7, allow_changes=False)
    assert not compare_settings(older, saved(), 7, allow_changes=False)


def test_what_only_says_how_a_run_is_computed_is_told_and_free():
    """Logging, chips and reading ahead; an unchanged config has no changes at all."""
    changes = compare_settings(
        saved(log_every=7, parallel="fsdp", mesh=(4, 2), accumulation=2, **{"data.threads": 9}),
        saved(),
        7,
        allow_changes=False,
    )
    assert sorted(changes) == ["accumulation", "data.threads", "log_every", "mesh", "parallel"]
    assert not compare_settings(saved(), saved(), 7, allow_changes=False)


def test_parts_of_a_batch_are_free_but_with_the_skip_cnn():
    """Each part is normalized by its own statistics there, and moves the running ones once more."""

    def compare(variant):
        before, now = saved(variant=variant, accumulation=2), saved(variant=variant)
        return compare_settings(before, now, 7, allow_changes=False)

    assert list(compare("small_mvd")) == ["accumulation"]
    with pytest.raises(RunError, match="accumulation: 2 before, 1 now.*--allow_changes"):
        compare("small_mvd_skip")


def test_another_set_of_the_same_name_to_evaluate_on_is_a_change():
    """By what it is made of and how many samples it has; checkpoints of before say neither."""
    made = {"held_out": {"made_from": ["3f"], "samples": 9}}
    config, stored = saved(), {"held_out": {"made_from": ["a0"], "samples": 9}}
    for other in (stored, {"held_out": {"made_from": ["3f"], "samples": 8}}):
        with pytest.raises(RunError, match="eval.held_out.made_of: .* before, .* now"):
            compare_settings(config, config, 7, allow_changes=False, sets=(other, made))
        assert not judged_alike(config, config, (other, made))
    for other in ({}, made, {"easy": stored["held_out"]}):
        assert not compare_settings(config, config, 7, allow_changes=False, sets=(other, made))
        assert judged_alike(config, config, (other, made))
    behind = saved(eval={"held_out": {"split": "validation"}, "easy": {"split": "train"}})
    assert judged_alike(behind, behind, ({"easy": 1}, {"easy": 2}))


def test_moved_data_sets_and_fields_of_another_version_are_no_change():
    """Sets are compared by name and weight; a field that one side lacks is passed over."""

    def text(mixture, **more):
        return json.dumps({"data": {"mixture": mixture}} | more)

    here = text([["/b/rooms", 1.0]])
    assert not changed_settings(text([["/a/rooms", 1.0]], old=1), here)
    for other in ([["/a/rooms", 2.0]], [["/a/boxes", 1.0]]):
        assert must_be_allowed(changed_settings(text(other), here), here) == ["data.mixture"]


@pytest.mark.parametrize("place", ["data.options", "eval.held_out.options"])
def test_options_with_names_of_their_own_are_compared_as_a_whole(place):
    """One that was left out before stood for its default: naming it is a change."""

    def config(options):
        return saved(
            **{"data.options": options} if place == "data.options" else {"eval": sets(options)}
        )

    changes = changed_settings(config({}), config({"room_max": 5.0}))
    assert changes == {place: ({}, {"room_max": 5.0})}
    assert must_be_allowed(changes, config({})) == [place]


def test_sets_to_evaluate_on_may_not_come_go_or_get_fields_unnoticed():
    """One put in front decides from then on; a field that a set lacks is that of the training."""
    held_out = {"held_out": {"split": "validation"}}
    narrow = {"held_out": {"split": "validation", "num_inputs": (2,)}}
    easy = {"easy": {"split": "train"}}
    before = saved(eval=held_out)
    changes = {
        "added": changed_settings(before, saved(eval=easy | held_out)),
        "instead": changed_settings(before, saved(eval=easy)),
        "field": changed_settings(before, saved(eval=narrow)),
    }
    assert changes == {
        "added": {"eval": (["held_out"], ["easy", "held_out"])},
        "instead": {"eval": (["held_out"], ["easy"])},
        "field": {"eval.held_out.num_inputs": ("as in data", [2])},
    }
    assert all(must_be_allowed(change, before) for change in changes.values())
    assert changed_settings(saved(eval=held_out | easy), saved(eval=easy | held_out))


@pytest.mark.parametrize(
    "fields, alike",
    [
        ({"eval": {"held_out": {"split": "validation", "num_inputs": (2,)}}}, False),
        ({"data.num_inputs": (2,)}, False),
        ({"loss.rgb": 1.0}, True),
        ({"data.threads": 3, "peak_lr": 1.0}, True),
        ({"eval_batches": 7}, False),
        ({"dtype": "bfloat16"}, False),
        ({"eval": {"held_out": {"split": "validation"}, "easy": {"split": "train"}}}, True),
    ],
    ids=[
        "narrower",
        "training narrower",
        "weights of the loss",
        "computed otherwise",
        "more batches",
        "other products",
        "another set behind",
    ],
)
def test_values_on_the_first_set_are_compared_where_they_mean_the_same(fields, alike):
    """What it inherits from the training counts, unless it has its own."""
    assert judged_alike(saved(**fields), saved()) == alike
    by_loss = {"best_metric": "loss"}
    assert not judged_alike(saved(**by_loss, **{"loss.rgb": 1.0}), saved(**by_loss))
    own = {"eval": {"held_out": {"split": "validation", "num_inputs": (4,)}}}
    assert judged_alike(saved(**own), saved(**own | {"data.num_inputs": (2,)}))


def test_numbers_of_paths_count_but_for_nd_of_paths_that_never_meet():
    """Losses are sums over paths; ND is path 0's, which others change in blocks across paths."""
    for variant, metric, alike in (
        ("small_mvd", "nd", True),
        ("small_mvd", "regression", False),
        ("small", "nd", False),
    ):
        fields = {"variant": variant, "best_metric": metric}
        assert judged_alike(saved(num_refs=3, **fields), saved(**fields)) == alike, fields


def sets(options):
    """A set to evaluate on, of rooms with these options."""
    return {"held_out": {"split": "validation", "options": options}}
