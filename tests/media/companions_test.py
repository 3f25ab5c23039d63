"""Depth, normals and masks beside photographs are no views; what only sounds like them is."""

from pathlib import Path

import pytest
from PIL import Image

from mvdust3r_jax.media import companions, photographs

FOLDERS = {
    "capture": (["0.png", "1.png"], ["0.depth.png", "1.depth.png"]),
    "7-Scenes": (["frame-000000.color.png"], ["frame-000000.depth.png"]),
    "renderer": (["r_0.png"], ["r_0_depth_0001.png", "r_0_normal_0001.png"]),
    "instant-ngp": (["0.png"], ["dynamic_mask_0.png"]),
    "masks": (["a.jpg", "b.JPG"], ["a.mask.png", "b.jpg.mask.png", "B_mask.png"]),
    "normals": (["a.jpg"], ["a.normal.png", "a.normals.png", "a_normal1.png", "a_depth.tif"]),
}
PHOTOGRAPHS = {
    "depth alone": ["0.depth.png", "1.depth.png"],
    "of another": ["1.png", "0.depth.png", "dynamic_mask_0.png"],
    "masked ball": ["ball.jpg", "ball_masked.jpg", "ball_mask_2.jpg", "ball_normally.jpg"],
    "before": ["mask_0.png", "0.png", "depth.png", "normal.png"],
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_what_belongs_to_a_photograph_is_left_out(tmp_path, kind):
    """And is told, how many and an example."""
    kept, left_out = FOLDERS[kind]
    for name in kept + left_out:
        Image.new("L", (4, 4)).save(tmp_path / name)
    assert [path.name for path in photographs.list_images(tmp_path)] == kept
    (told,) = photographs.passed_over(tmp_path)
    assert f"{len(left_out)} depth maps, normals or masks" in told
    assert any(f"such as {name} (" in told for name in left_out)


@pytest.mark.parametrize("kind", PHOTOGRAPHS)
def test_what_belongs_to_none_is_a_photograph(kind):
    """Only where the photograph itself is there, and the word ends."""
    paths = [Path(name) for name in PHOTOGRAPHS[kind]]
    assert companions.split(paths) == (paths, [])
