"""Names of photographs that file systems take only just: everything is written all the same."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from mvdust3r_jax.export import colmap, depth_files, nerfstudio, photographs
from mvdust3r_jax.media.photographs import Photo
from mvdust3r_jax.reconstruction.arguments import scene_names

LONG = ["写" * 83 + ".png", "x" * 251 + ".jpg", "left/" + "y" * 251 + ".jpg", "y" * 251 + ".jpg"]


@pytest.mark.parametrize("names", [LONG[:3], LONG[1:], [LONG[0], "a b.jpg", "c.jpg"]])
def test_the_longest_names_are_written(tmp_path, scene, names):
    """255 bytes leave no room for a folder's name, a number or another ending."""
    sources = [tmp_path / "in" / name for name in names]
    for path, (height, width) in zip(sources, scene.original_sizes, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (int(width), int(height))).save(path)
    scene = dataclasses.replace(
        scene, names=np.array(scene_names(sources, [s.name for s in sources]))
    )
    _check_written(tmp_path, scene, sources)


def test_frames_of_a_video_of_a_long_name_are_written(tmp_path, scene):
    """The number of a frame comes to the video's name."""
    frames = [
        Photo(
            np.zeros((*size, 3), np.uint8), np.ones(size, bool), tuple(size), f"{'写' * 83}_{i:06d}"
        )
        for i, size in enumerate(scene.original_sizes.tolist())
    ]
    scene = dataclasses.replace(
        scene, names=np.array(scene_names(frames, [f.name for f in frames]))
    )
    _check_written(tmp_path, scene, frames)


def _check_written(folder, scene, sources):
    """All files that bear the photographs' names; formats agree on them, later ones too."""
    names = scene_names(sources, [source.name for source in sources])
    scene = dataclasses.replace(scene, names=np.array(names))
    nerfstudio.write_nerfstudio(folder / "without" / "nerfstudio", scene)
    photographs.write_photographs(folder, scene, sources)
    colmap.write_colmap_text(folder / "colmap", scene)
    nerfstudio.write_nerfstudio(folder / "nerfstudio", scene)
    depth_files.write_depth(folder / "depth", scene)
    written = sorted(path.name for path in (folder / "images").iterdir())
    assert len(written) == len(scene.names)
    assert sorted(path.name for path in (folder / "colmap/images").iterdir()) == written
    frames = json.loads((folder / "nerfstudio/transforms.json").read_text())["frames"]
    assert sorted(frame["file_path"] for frame in frames) == [f"../images/{n}" for n in written]
    assert len(list((folder / "depth").glob("*.npz"))) == len(scene.names)
