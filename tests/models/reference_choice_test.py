"""The choice of the reference: the surest path, and every view tried in groups."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from mvdust3r_jax import VARIANTS, MVDust3r
from mvdust3r_jax.models.encoded import encode_views
from mvdust3r_jax.models.reference_choice import (
    from_middle_view,
    path_scores,
    surest_of_paths,
    surest_path,
    surest_reference,
)
from mvdust3r_jax.types import Prediction
from tests.compiled import compiled, uniform
from tests.random_networks import random_variables

VIEWS = 5


def network(views=VIEWS, **changes):
    """(config, variables, images) of a tiny network, random ones."""
    config = dataclasses.replace(VARIANTS["tiny"], **changes)
    return config, random_variables(config), uniform(1, 2, views, 16, 24, 3, low=-1.0)


def one_by_one(config, variables, images):
    """Oracle: a pass for each view, that view and view 0 having changed places."""
    passes = []
    apply = jax.jit(MVDust3r(config).apply)
    for view in range(VIEWS):
        order = np.arange(VIEWS)
        order[[0, view]] = view, 0
        answer = apply(variables, np.asarray(images)[:, order])
        passes.append(jax.tree.map(lambda x, o=order: np.asarray(x)[:, o], answer))
    return passes


@pytest.mark.parametrize(("cross_ref", "at_once"), [(False, 1), (False, 2), (True, 2)])
def test_every_view_is_tried(cross_ref, at_once):
    """Scores, reference and answer are those of the best of V separate passes, in any groups."""
    config, variables, images = network(cross_ref=cross_ref)
    choose = functools.partial(surest_reference, config=config, at_once=at_once)
    choice = jax.jit(choose)(variables, images)
    passes = one_by_one(config, variables, images)
    scores = np.stack([compiled(path_scores)(p.confidence) for p in passes], axis=1)
    np.testing.assert_allclose(choice.scores, scores, atol=1e-5)
    np.testing.assert_array_equal(choice.reference, scores.argmax(axis=1))
    for sample, best in enumerate(scores.argmax(axis=1)):
        for found, wanted in zip(
            jax.tree.leaves(choice.prediction), jax.tree.leaves(passes[best]), strict=True
        ):
            found = np.asarray(found)
            np.testing.assert_allclose(found[sample], wanted[sample], atol=1e-4, rtol=1e-4)


def test_images_are_encoded_once():
    """Trying every view costs the encoder of one pass; loops' bodies are counted once by XLA."""
    config, variables, images = network(cross_ref=False, enc_depth=4, unroll=True)

    def flops(function):
        return jax.jit(function).lower(variables, images).cost_analysis()["flops"]

    once = flops(functools.partial(encode_views, config=config))
    extra = flops(functools.partial(surest_reference, config=config, at_once=1))
    extra -= flops(MVDust3r(config).apply)
    assert abs(extra) < 0.1 * once


def test_memory_does_not_grow_with_the_candidates():
    """Of twice as many candidates decoded as many at once, the temporaries are of one group."""
    config, variables, images = network(cross_ref=False)
    bytes_of = {}
    for at_once in (1, VIEWS):
        choose = functools.partial(surest_reference, config=config, at_once=at_once)
        compiled = jax.jit(choose).lower(variables, images).compile()
        bytes_of[at_once] = compiled.memory_analysis().temp_size_in_bytes
    assert bytes_of[1] < 0.6 * bytes_of[VIEWS]


def test_the_middle_view_is_chosen_for_each_sample():
    """A view between two others, of tokens that differ in the mean; by R paths as by one pass."""
    config, variables, images = network(views=3)
    between = np.array(images)
    between[:, 2] = between[:, :2].mean(axis=1)
    images = np.stack([between[0], between[1, [2, 0, 1]]])
    find = jax.jit(functools.partial(from_middle_view, config=config, num_refs=2))
    prediction, reference = find(variables, images)
    np.testing.assert_array_equal(reference, [2, 0])
    apply = jax.jit(functools.partial(MVDust3r(config).apply, num_refs=2))
    order = np.array([[2, 0, 1], [0, 1, 2]])
    wanted = apply(variables, np.take_along_axis(images, order[..., None, None, None], axis=1))
    prediction, wanted = jax.device_get((prediction, wanted))
    for found, want in zip(jax.tree.leaves(prediction), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(found[0][order[0]], want[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[1], want[1], rtol=1e-4, atol=1e-5)


def test_the_surest_path_wins():
    """By the mean logarithm: one enormous confidence does not outweigh all other pixels."""
    confidence = np.full((1, 3, 2, 4, 4), 2, np.float32)
    confidence[0, 1], confidence[0, 2, 0, 0, 0] = 4, 1e9
    points = np.broadcast_to(np.float32([0, 1, 2]).reshape(1, 3, 1, 1, 1, 1), (1, 3, 2, 4, 4, 3))
    choice = compiled(surest_path)(Prediction(points, confidence))
    assert int(choice.reference[0]) == 1 and np.all(np.asarray(choice.prediction.points) == 1)


def test_a_path_that_is_not_a_number_never_wins():
    """Its score is the lowest."""
    confidence = np.full((1, 2, 1, 2, 2), 2, np.float32)
    confidence[0, 0, 0, 0, 0] = np.nan
    points = np.zeros((1, 2, 1, 2, 2, 3), np.float32)
    choice = compiled(surest_path)(Prediction(points, confidence))
    assert int(choice.reference[0]) == 1


def test_an_answer_is_always_the_networks_own():
    """Where every confidence is not a number, nor is the answer: it is not filled with zeros."""
    config, variables, images = network(cross_ref=False)
    variables = jax.tree.map(lambda x: np.full(x.shape, np.nan, x.dtype), variables)
    choose = functools.partial(surest_reference, config=config, at_once=2)
    choice = jax.jit(choose)(variables, images)
    assert np.isnan(choice.prediction.points).all()
    assert np.all(np.asarray(choice.scores) == -np.inf)


def test_the_surest_of_paths_is_that_of_all():
    """Heads of the surest path alone give what it has in a pass with every path's heads."""
    config, variables, images = network(views=3)
    pass_of_all = functools.partial(MVDust3r(config).apply, num_refs=2, all_paths=True)
    wanted = jax.jit(lambda *given: surest_path(pass_of_all(*given)))(variables, images)
    choose = jax.jit(functools.partial(surest_of_paths, config=config, num_refs=2))
    found = choose(variables, images)
    np.testing.assert_array_equal(found.reference, wanted.reference)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)
