"""Answers to views and to their mirror images: what a mirror does, undone, and the mean of both."""

import numpy as np
import pytest

from mvdust3r_jax.geometry import mirrored
from mvdust3r_jax.types import Prediction
from tests.compiled import Compiled, normal, uniform

compiled = Compiled(mirrored)


@pytest.fixture
def seen():
    """A prediction [2, 3, 4, 6, ...]."""
    return Prediction(normal(0, 2, 3, 4, 6, 3), 1 + uniform(1, 2, 3, 4, 6))


def in_a_mirror(prediction):
    """What is left is right, in pixels and in space."""
    flip = np.float32([-1, 1, 1])
    points = np.asarray(prediction.points)[..., ::-1, :] * flip
    return Prediction(points, np.asarray(prediction.confidence)[..., ::-1])


def test_the_answer_s_own_mirror_image_changes_nothing(seen):
    """Whatever scale it comes at."""
    image = in_a_mirror(seen)
    found = compiled.mean_of_both(seen, image.replace(points=7 * image.points))
    np.testing.assert_allclose(found.points, seen.points, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.confidence, seen.confidence, rtol=1e-6)


def test_errors_of_opposite_sign_cancel(seen):
    """The mean of two answers of one size; of confidences the geometric mean."""
    error = 0.01 * normal(2, 2, 3, 4, 6, 3)
    image = in_a_mirror(seen.replace(points=seen.points + error))
    one = seen.replace(points=seen.points - error)
    image = image.replace(confidence=4 * image.confidence)
    found = compiled.mean_of_both(one, image)
    # The errors change the two scales a little.
    assert np.abs(found.points - seen.points).mean() < 0.2 * np.abs(error).mean()
    np.testing.assert_allclose(found.confidence, 2 * seen.confidence, rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_point_that_one_answer_lacks_is_the_other_s_alone(seen, value):
    """Where the mirror's is not finite; and it does not touch the scale of the rest."""
    image = in_a_mirror(seen)
    points = np.array(image.points)
    points[0, 1, 2, 3] = value
    found = compiled.mean_of_both(seen, image.replace(points=points))
    np.testing.assert_allclose(found.points, seen.points, rtol=1e-5, atol=1e-6)
