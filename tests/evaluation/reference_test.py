"""Methods whose reference is not view 0: the truth seen from another view scores as the truth."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvdust3r_jax import VARIANTS
from mvdust3r_jax.evaluation import judge, scores
from mvdust3r_jax.evaluation.baselines import oracle_prediction
from mvdust3r_jax.evaluation.devices import Devices
from mvdust3r_jax.evaluation.estimate import add_poses, first_view, ground_truth
from mvdust3r_jax.evaluation.methods import METHODS, Job, Settings
from mvdust3r_jax.models.network import Network
from mvdust3r_jax.types import Prediction
from tests.compiled import Compiled, compiled, uniform
from tests.evaluation.boxes import TARGETS, VIEWS, box_set

SEEN_FROM = 2


@dataclasses.dataclass
class Oracle(Job):
    """Its network answers with these paths, or with the one seen from ``SEEN_FROM``."""

    paths: Prediction | None = None

    def predict(self, function, **options):
        if function.__name__ == "predict_all_paths":
            return self.paths
        reference = np.full(1, SEEN_FROM, np.int32)
        return jax.tree.map(lambda x: x[:, SEEN_FROM], self.paths), jax.device_put(reference)


@pytest.fixture(scope="module")
def batch():
    """A box; lenses differ, and render-only views have no depth, so they measure no scene."""
    batch = box_set().load(["5"], VIEWS, TARGETS)
    batch.intrinsics[..., [0, 1], [0, 1]] *= np.linspace(1, 1.5, VIEWS + TARGETS)[None, :, None]
    batch.depth_m[:, VIEWS:] = 0
    return jax.device_put(batch)


def test_the_truth_seen_from_another_view_scores_as_the_truth(batch):
    """Points, clouds, lens and new views are measured in the chosen reference's frame."""
    compiled_scores = Compiled(scores)
    plain = compiled(oracle_prediction)(batch, VIEWS)
    seen = compiled(ground_truth)(batch, VIEWS, np.full(1, SEEN_FROM, np.int32)).points
    # Other paths are bent and less sure.
    points = np.stack([np.array(seen)] * 3, axis=1)
    points[:, :SEEN_FROM] *= np.float32([1.0, 2.0, 0.5])
    three = jax.tree.map(lambda x: np.stack([np.array(x)] * 3, axis=1), plain)
    confidence = 2 + np.zeros_like(three.confidence)
    confidence[:, SEEN_FROM] = 3
    paths = jax.device_put(three.replace(points=points, confidence=confidence))
    settings = Settings(VIEWS, 3, VIEWS, "complete", 0, 0, 1, 1.0)
    devices, network = Devices(1), Network(VARIANTS["tiny"], {})
    for name in ("mvd_auto", "mvd_middle", "mvd_mirrored", "mvdp_auto", "mvdp_best"):
        estimate = METHODS[name].estimate(Oracle(devices, batch, settings, network, paths=paths))
        numbers, (cloud, truth, _) = compiled_scores.score_and_clouds(estimate, batch)
        assert numbers["nd"] < 1e-5 and numbers["focal_error"] < 1e-4, name
        # float32 of meters.
        np.testing.assert_allclose(cloud, truth, atol=1e-5, err_msg=name)
    from_first = estimate.replace(points=plain.points, reference=first_view(batch))
    options = {"sh_degree": 0, "max_scale": 1.0, "capacity": 1 << 18}
    images, expected = (
        np.asarray(compiled_scores.novel_views(x, batch, **options)[0])
        for x in (estimate, from_first)
    )
    # The same Gaussians, rounded in another frame: one may come into a tile or leave it.
    assert np.abs(images - expected).mean() < 1e-3 < images.std()


def test_new_views_lack_no_gaussian(batch, monkeypatch):
    """Lists that are too short at first are made longer: the same images as with room enough."""
    truth, devices = compiled(oracle_prediction)(batch, VIEWS), Devices(1)
    estimate = compiled(add_poses)(truth, batch, first_view(batch))
    whole = np.asarray(judge.novel_images(devices, estimate, batch, None)[0])
    tried, novel_views = [], scores.novel_views

    def told(*args, capacity, **options):
        tried.append(capacity)
        return novel_views(*args, capacity=capacity, **options)

    monkeypatch.setattr(scores, "novel_views", told)
    monkeypatch.setattr(scores, "room_for", lambda _: 32)
    again = np.asarray(judge.novel_images(devices, estimate, batch, None)[0])
    assert len(tried) == 2 and tried[1] > 32
    np.testing.assert_array_equal(again, whole)


def test_renders_brighter_than_white_score_as_white(monkeypatch):
    """And darker than black as black: a file would show no more."""
    monkeypatch.setattr(scores.lpips, "distance", lambda _, a, b: jnp.abs(a - b).mean((1, 2, 3)))
    monkeypatch.setattr(scores.lpips, "MIN_SIDE", 16)
    truth = uniform(0, 1, 2, 16, 16, 3, low=-1.0)
    # Not `compiled`, which would keep the program with this distance in it.
    scored = jax.jit(scores.score_images)
    for beyond in (3 * np.asarray(truth), np.full(truth.shape, -7, np.float32)):
        found, expected = (scored({}, x, truth) for x in (beyond, np.clip(beyond, -1, 1)))
        assert len(found) == 4
        jax.tree.map(np.testing.assert_array_equal, found, expected)
