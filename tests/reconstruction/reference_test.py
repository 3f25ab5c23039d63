"""The reference view: given, the first, or the one on whose path the network is surest."""

import dataclasses

import jax
import numpy as np
import pytest

from mvdust3r_jax import VARIANTS, ModelConfig
from mvdust3r_jax.models.network import random_variables
from mvdust3r_jax.reconstruction import network
from mvdust3r_jax.reconstruction.model import Model
from mvdust3r_jax.reconstruction.reconstruct import reconstruct
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.storage.scene_check import SceneFileError

CONFIG = ModelConfig(16, 1, 1, 16, 1, 1, patch=8, skip=False, gaussian_hidden=8)
PHOTOGRAPHS = list(np.random.default_rng(0).integers(0, 255, (3, 16, 24, 3), np.uint8))


@pytest.fixture(scope="module", params=[False, True], ids=["one path", "several paths"])
def model(request):
    config = dataclasses.replace(CONFIG, cross_ref=request.param)
    # Large enough that paths differ, confidences too.
    variables = jax.tree.map(lambda x: 300 * x, random_variables(config))
    return Model(config, variables, (16, 24), "test")


def test_the_surest_is_taken(model, tmp_path):
    """Its camera is the world and its margin is told, also by the saved scene."""
    shares = []
    scene = reconstruct(PHOTOGRAPHS, model, reference="auto", num_refs=2, advance=shares.append)
    np.testing.assert_array_equal(scene.world_from_cam[scene.reference], np.eye(4))
    assert scene.pose_ok[scene.reference] and scene.reference_margin >= 0
    scene.save(tmp_path, ["npz"])
    loaded = Scene.load(tmp_path)
    assert loaded.reference == scene.reference
    assert loaded.reference_margin == scene.reference_margin
    if model.config.cross_ref:
        return
    # A network of one path tries every photograph, and answers as if it had been told.
    assert shares == sorted(shares) and shares[-1] == 1
    told = reconstruct(PHOTOGRAPHS, model, reference=scene.reference)
    np.testing.assert_allclose(scene.points, told.points, rtol=1e-3, atol=1e-5)
    means = [
        np.log(reconstruct(PHOTOGRAPHS, model, reference=i).confidence).mean() for i in range(3)
    ]
    assert int(np.argmax(means)) == scene.reference
    assert scene.reference_margin == pytest.approx(np.diff(sorted(means))[-1], abs=1e-4)


def test_the_one_in_the_middle_is_most_like_the_others(model):
    """By the encoder's mean tokens, whatever the order; the answer is that of a told reference."""
    scene = reconstruct(PHOTOGRAPHS, model, reference="middle", num_refs=1)
    features = network.features_of(model, np.stack(PHOTOGRAPHS), 3)
    centered = features - features.mean(axis=0)
    centered /= np.linalg.norm(centered, axis=1)[:, None]
    others = [centered[i] @ np.delete(centered, i, axis=0).T for i in range(3)]
    assert scene.reference == int(np.argmax(np.mean(others, axis=1)))
    assert scene.reference_margin is None
    told = reconstruct(PHOTOGRAPHS, model, reference=scene.reference, num_refs=1)
    np.testing.assert_allclose(scene.points, told.points, rtol=1e-3, atol=1e-5)
    turned = reconstruct(PHOTOGRAPHS[::-1], model, reference="middle", num_refs=1)
    assert turned.reference == 2 - scene.reference


def test_candidates_are_tried_in_groups_that_fit(model, monkeypatch):
    """In any groups the choice is the same."""
    if model.config.cross_ref:
        return
    wanted = reconstruct(PHOTOGRAPHS, model, reference="auto")
    monkeypatch.setattr(network, "_candidates_at_once", lambda *_: 2)
    found = reconstruct(PHOTOGRAPHS, model, reference="auto")
    assert found.reference == wanted.reference
    assert found.reference_margin == pytest.approx(wanted.reference_margin, abs=1e-4)


def test_by_default_it_is_looked_for_where_that_is_cheap():
    """With the paths of MV-DUSt3R+ of any size; not where the scene would be decoded again."""
    size = dict(views=8, num_refs=4, height=224, width=224)
    found = {n: network.default_reference(VARIANTS[n], **size) for n in ("mvdp", "small", "mvd")}
    assert found == {"mvdp": "auto", "small": "auto", "mvd": "middle"}
    assert network.default_reference(VARIANTS["mvdp"], **size | {"num_refs": 1}) == "middle"
    assert network.default_reference(VARIANTS["mvd"], **size | {"views": 2}) == "first"


@pytest.mark.parametrize("reference", [3, -1, "last", True])
def test_wrong_references(model, reference):
    """What is no photograph and no word is refused before anything is computed."""
    with pytest.raises(ValueError, match="'auto', .*'first' or a photograph from 0 to 2, got"):
        reconstruct(PHOTOGRAPHS, model, reference=reference)


def test_a_saved_reference_is_a_view(model, tmp_path):
    """A scene whose reference is none of its views is not saved."""
    scene = dataclasses.replace(reconstruct(PHOTOGRAPHS, model, reference=0), reference=3)
    with pytest.raises(SceneFileError, match="reference should hold a view from 0 to 2, got 3"):
        scene.save(tmp_path, ["npz"])
    assert not list(tmp_path.iterdir())
