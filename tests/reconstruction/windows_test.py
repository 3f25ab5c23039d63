"""Windows of views: how they are joined, and runs that go on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvdust3r_jax.geometry.transforms import rotation_from_axis_angle
from mvdust3r_jax.reconstruction import windows
from mvdust3r_jax.reconstruction.network import Answer
from mvdust3r_jax.types import Prediction
from tests.reconstruction.turned_gaussians import assert_alike, moved_by_hand, random_gaussians

VIEWS, SIZE = 7, (6, 8)
GAUSSIANS = random_gaussians(VIEWS, *SIZE)
IN_ORDER = [[0, 1, 2, 3], [3, 4, 5, 6]]
MIXED = [[0, 3, 5, 1], [5, 0, 6, 2], [2, 3, 4, 1]]


@pytest.fixture
def world():
    """True points and confidences of all views, and pixels that tell the views apart."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(VIEWS, *SIZE, 3)).astype(np.float32)
    confidence = 2 + rng.random((VIEWS, *SIZE)).astype(np.float32)
    pixels = np.zeros((VIEWS, *SIZE, 3), np.uint8)
    pixels += np.arange(VIEWS, dtype=np.uint8)[:, None, None, None]
    return points, confidence, pixels


def network(world, outliers=0.0, sure=(1, 1, 1)):
    """A perfect network whose every answer has a frame and a scale of its own.

    sure: by window, what confidences are multiplied by, and opacities as well.
    """
    points, confidence, _ = world
    asked = []

    def ask(_variables, pixels):
        views = pixels[:, 0, 0, 0]
        asked.append(views.tolist())
        rng = np.random.default_rng(int(views[0]) + 1)
        first = views[0] == 0
        scale = 1.0 if first else float(rng.uniform(0.3, 3))
        turn = (
            np.eye(3)
            if first
            else np.asarray(rotation_from_axis_angle(jnp.asarray(rng.normal(size=3))))
        )
        shift = np.zeros(3) if first else rng.normal(size=3)
        found = (scale * points[views] @ turn.T + shift).astype(np.float32)
        wrong = rng.random(found.shape[:-1]) < outliers
        found[wrong] += 9
        gaussians = moved_by_hand(jax.tree.map(lambda x: x[views], GAUSSIANS), scale, turn)
        factor = np.float32(sure[len(asked) - 1])
        gaussians = gaussians.replace(opacities=factor * gaussians.opacities)
        return Answer(Prediction(found, factor * confidence[views], gaussians), reference=1)

    return ask, asked


@pytest.mark.parametrize("plan", [IN_ORDER, MIXED])
def test_windows_are_joined_exactly(world, plan):
    """Frames and scales of all windows become the first one's; Gaussians go with the points."""
    ask, asked = network(world)
    shares = []
    answer = windows.ask_in_windows(ask, {}, world[2], plan, advance=shares.append)
    np.testing.assert_allclose(answer.prediction.points, world[0], atol=1e-4)
    np.testing.assert_array_equal(answer.prediction.confidence, world[1])
    assert_alike(answer.prediction.gaussians, GAUSSIANS, 1e-4)
    assert (
        answer.reference == plan[0][1]
        and asked == plan
        and len(shares) == len(plan)
        and shares[-1] == 1
    )


def test_the_surer_window_has_the_say(world):
    """Whether it is asked before or after another one with the same view."""
    sure = np.array([2.0, 1.0, 1.5], np.float32)
    ask, _ = network(world, sure=sure)
    found = windows.ask_in_windows(ask, {}, world[2], MIXED).prediction
    has = np.array([[view in plan for plan in MIXED] for view in range(VIEWS)])
    factor = np.where(has, sure, 0).max(axis=1)[:, None, None]
    np.testing.assert_array_equal(found.confidence, factor * world[1])
    np.testing.assert_array_equal(found.gaussians.opacities, factor * GAUSSIANS.opacities)


def test_outliers_do_not_move_a_window(world):
    """A tenth of wrong points leave the others where they are."""
    ask, _ = network(world, outliers=0.1)
    answer = windows.ask_in_windows(ask, {}, world[2], IN_ORDER)
    errors = np.linalg.norm(answer.prediction.points - world[0], axis=-1)
    assert np.quantile(errors, 0.8) < 0.02


def test_a_run_goes_on_from_what_is_kept(world, tmp_path):
    """Nothing is asked for twice, unless weights, settings or the file are others."""
    ask, asked = network(world)
    weights = {"a": np.ones(3, np.float32)}

    def run(weights, facts=("x",)):
        asked.clear()
        told = dict(kept_in=tmp_path, facts=facts)
        return windows.ask_in_windows(ask, weights, world[2], IN_ORDER, **told), len(asked)

    first, count = run(weights)
    again, none = run(weights)
    assert none == 0 and count == len(list(tmp_path.iterdir()))
    np.testing.assert_array_equal(again.prediction.points, first.prediction.points)
    assert run({"a": np.zeros(3, np.float32)})[1] == count == run(weights, ("y",))[1]
    for path in tmp_path.iterdir():
        path.write_bytes(b"damaged")
    assert run(weights)[1] == count


@pytest.mark.parametrize("lost", ["points", "confidence", "reference", "scales"])
def test_a_kept_answer_that_lacks_an_array_is_made_anew(world, tmp_path, lost):
    """Files of other versions, too, are passed over."""
    ask, asked = network(world)
    first = windows.ask_in_windows(ask, {}, world[2], IN_ORDER, kept_in=tmp_path, facts=())
    for path in tmp_path.iterdir():
        with np.load(path) as stored:
            np.savez(path, **{name: array for name, array in stored.items() if name != lost})
    asked.clear()
    again = windows.ask_in_windows(ask, {}, world[2], IN_ORDER, kept_in=tmp_path, facts=())
    assert len(asked) == len(IN_ORDER)
    np.testing.assert_array_equal(again.prediction.points, first.prediction.points)
