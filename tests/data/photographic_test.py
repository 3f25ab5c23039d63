"""Faults of a camera: in range, geometry untouched, nothing at strength 0."""

import numpy as np
import pytest

from data import photographic
from tests.compiled import compiled, uniform

photograph = compiled(photographic.photograph)
IMAGES = np.asarray(uniform(1, 3, 2, 16, 24, 3))


def test_strength_zero_changes_nothing(key):
    """Bit for bit."""
    np.testing.assert_array_equal(photograph(key, IMAGES, 0.0), IMAGES)


def test_photographs_stay_in_range_and_differ(key):
    """Values in [0, 1], finite, not those of the clean image."""
    taken = np.asarray(photograph(key, IMAGES, 1.0))
    assert np.isfinite(taken).all() and taken.min() >= 0 and taken.max() <= 1
    assert np.abs(taken - IMAGES).mean() > 0.01


def test_edges_stay_where_they_are(key):
    """The steepest column of a vertical edge is the same for every draw."""
    edge = np.where(np.arange(24) < 11, np.float32(0.3), np.float32(0.6))
    images = np.broadcast_to(edge[:, None], (64, 1, 16, 24, 3))
    rows = np.mean(photograph(key, images, 1.0), axis=(1, 2, 4))
    steepest = np.abs(np.diff(rows, axis=1)).argmax(axis=1)
    assert (steepest == 10).mean() > 0.95  # noise may hide a blurred edge now and then


def test_faults_differ_between_samples_and_views(key):
    """The same image everywhere: each sample and each view is taken differently."""
    images = np.broadcast_to(IMAGES[:1, :1], IMAGES.shape)
    means = np.mean(photograph(key, images, 1.0), axis=(2, 3, 4)).ravel()
    assert len(np.unique(np.round(means, 4))) == means.size


def test_jpeg_blocks_must_fit(key):
    """Sides that are no multiples of 8 are refused."""
    with pytest.raises(ValueError, match="multiples of 8, got 12 x 16"):
        photograph(key, np.zeros((1, 1, 12, 16, 3), np.float32))
