"""A scene in the viewer, without a browser: its nodes, controls and title."""

import urllib.parse
import urllib.request

import numpy as np
import pytest

from mvdust3r_jax.viewer import Viewer
from tests.export_scene import box_room
from tests.viewer.drop_page import wait_for


def test_scene_becomes_nodes(shown):
    """Points, one frustum per posed view and three pictures are there, poses as in the scene."""
    scene = shown.scene
    assert shown.cloud.points.name == "/points"
    assert sorted(shown.views.frusta) == [0, 1, 2]
    np.testing.assert_allclose(
        shown.views.frusta[2].position, scene.world_from_cam[2, :3, 3], atol=1e-6
    )
    assert len(shown.views.panels) == 3
    # 32 pixels at a focal length of 43.2.
    assert shown.views.frusta[0].fov == pytest.approx(2 * np.arctan(16 / 43.2), rel=1e-6)


def test_confidence_slider_changes_the_points_sent(shown):
    """The slider's percentage of points goes, and those are the least confident ones."""
    total = shown.scene.masks.sum()
    assert len(shown.cloud.points.points) == shown.cloud.shown == round(0.9 * total)
    shown.cloud.confidence.value = 60
    wait_for(lambda: len(shown.cloud.points.points) == round(0.4 * total))
    order = np.argsort(-shown.scene.confidence.reshape(-1), kind="stable")
    best = shown.scene.points.reshape(-1, 3)[order[: shown.cloud.shown]]
    np.testing.assert_array_equal(shown.cloud.points.points, best)
    assert f"{shown.cloud.shown:,}" in shown.cloud.counter.content


def test_gaussians_take_the_place_of_points(shown):
    """Ticking the box sends Gaussians and hides the points; unticking undoes it."""
    shown.cloud.splats.value = True
    wait_for(lambda: shown.cloud.splat_node is not None and not shown.cloud.points.visible)
    shown.cloud.splats.value = False
    wait_for(lambda: shown.cloud.points.visible and not shown.cloud.splat_node.visible)


def test_view_choice_changes_the_pictures(shown):
    """The chosen view's photograph, depth and confidence are those that are shown."""
    shown.views.view_choice.value = shown.views.labels[2]
    photograph, depth, _ = shown.views.panels
    wait_for(lambda: np.array_equal(photograph.image, shown.views.pictures[0][2]))
    wait_for(lambda: np.array_equal(depth.image, shown.views.pictures[1][2]))


def test_next_scene_replaces_the_first(shown):
    """A second scene leaves no node or control of the first."""
    shown.show(box_room(2))
    assert sorted(shown.views.frusta) == [0, 1] and len(shown.views.labels) == 2


def test_the_page_is_called_as_the_scene():
    """Title of the page and label of the panel; another one of several scenes takes their place."""
    with Viewer({"a <b>": box_room(2), "second": box_room(3)}, port=0) as viewer:
        for title, escaped in [("a <b>", "a &lt;b&gt;"), ("second", "second")]:
            viewer.view.change(title)
            with urllib.request.urlopen(viewer.url, timeout=10) as page:
                assert f"<title>{escaped}</title>" in page.read().decode()
        assert len(viewer.view.views.frusta) == 3


def test_scene_without_points_or_poses_is_shown():
    """An empty mask and missing poses are no reason to fail."""
    scene = box_room(2)
    scene.masks[:] = False
    scene.pose_ok[:] = False
    with Viewer(scene, port=0) as viewer:
        assert viewer.view.cloud.shown == 0 and not viewer.view.views.frusta


def test_up_is_that_of_the_cameras_in_a_world_of_its_own(shown, monkeypatch):
    """-y for the reference camera's world, the mean of the cameras' up for that of known poses."""
    told = []
    monkeypatch.setattr(type(shown.server.scene), "set_up_direction", lambda _, up: told.append(up))
    scene = box_room(2)
    shown.show(scene)
    turn = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    scene.world_from_cam = (turn @ scene.world_from_cam).astype(np.float32)
    scene.world_is_reference = False
    shown.show(scene)
    np.testing.assert_allclose(told, [[0, -1, 0], [0, 0, 1]], atol=1e-6)
