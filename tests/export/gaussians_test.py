"""Gaussians of a scene and 3DGS files: read back, rendered, or made from pixels."""

import dataclasses

import numpy as np
import plyfile
import pytest

from mvdust3r_jax.export import drawing, gaussians, splat_ply
from mvdust3r_jax.splat.pointmaps import MIN_SCALE
from tests.export_scene import box_room


def test_gaussian_file_reads_back_what_was_written(tmp_path):
    """Activated values survive logarithm, logit and float32, for degrees 0 and 1."""
    for degree in (0, 1):
        cloud = gaussians.gaussian_cloud(box_room(2, sh_degree=degree))
        splat_ply.write_gaussian_cloud(tmp_path / "g.ply", cloud)
        again = splat_ply.read_gaussian_cloud(tmp_path / "g.ply")
        assert again.sh_degree == degree
        for field in dataclasses.fields(cloud):
            # log and exp in float32 keep six digits.
            np.testing.assert_allclose(
                getattr(again, field.name), getattr(cloud, field.name), rtol=2e-6, atol=1e-6
            )


def test_gaussian_file_has_the_standard_columns(tmp_path):
    """plyfile sees 3DGS's columns in order, values before activation, channel by channel."""
    room = box_room(2, sh_degree=1)
    splat_ply.write_splat_ply(tmp_path / "g.ply", room)
    vertex = plyfile.PlyData.read(tmp_path / "g.ply")["vertex"]
    names = [p.name for p in vertex.properties]
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[9:18] == [f"f_rest_{i}" for i in range(9)]
    assert names[18:] == [
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]
    opacity = room.gaussians.opacities.reshape(-1)
    np.testing.assert_allclose(1 / (1 + np.exp(-vertex["opacity"])), opacity, atol=1e-6)
    # f_rest_3 is the first higher coefficient (k = 1) of green (channel 1).
    np.testing.assert_array_equal(vertex["f_rest_3"], room.gaussians.colors[..., 4].reshape(-1))
    least = MIN_SCALE * gaussians.mean_distance(room)
    wanted = np.log(np.maximum(room.gaussians.scales[..., 0].reshape(-1), least))
    np.testing.assert_allclose(vertex["scale_0"], wanted, atol=1e-5)


@pytest.mark.parametrize(
    "content", [b"", b"ply\n", b"hello", b"ply\nformat ascii 1.0\nend_header\n"]
)
def test_other_files_are_no_gaussians(tmp_path, content):
    """Whatever is no 3DGS file is refused with a ValueError that names the file."""
    (tmp_path / "x.ply").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.ply"):
        splat_ply.read_gaussian_cloud(tmp_path / "x.ply")


@pytest.mark.parametrize("degree", [0, 1])
def test_reread_gaussians_render_like_the_scene(tmp_path, degree):
    """The file, read back and rendered, gives the direct rendering's image."""
    room = box_room(2, height=16, width=24, sh_degree=degree)
    splat_ply.write_splat_ply(tmp_path / "g.ply", room)
    again = splat_ply.read_gaussian_cloud(tmp_path / "g.ply")
    arguments = room.world_from_cam[:1], room.intrinsics[0], 16, 24
    (direct,) = drawing.render(gaussians.gaussian_cloud(room), *arguments)
    (reread,) = drawing.render(again, *arguments)
    assert direct.min() < 0.7  # something is drawn on the white ground
    # Six digits of every parameter; a pixel sums a few dozen Gaussians.
    np.testing.assert_allclose(reread, direct, atol=2e-5)


def test_stand_in_gaussians_render_the_photograph():
    """Without Gaussian heads, surfels as large as pixels show the input view to a pixel."""
    room = box_room(1, height=32, width=48, with_gaussians=False)
    v, u = np.meshgrid(np.arange(32) / 48, np.arange(48) / 48, indexing="ij")
    room.images_01[0] = np.stack([u, v, np.full_like(u, 0.5)], axis=-1)
    cloud = gaussians.gaussian_cloud(room)
    (image,) = drawing.render(cloud, room.world_from_cam, room.intrinsics[0], 32, 48)
    inner = np.s_[3:-3, 3:-3]
    # A ramp stays itself under blur, so a difference in color is a shift in pixels. Neighbors
    # overlap, and the nearer one of a slanted wall covers the other: most of a pixel to the side.
    # Up and down the walls are straight, and of equals the first covers the other.
    aside, down = 48 * np.median((image - room.images_01[0])[inner][..., :2], axis=(0, 1))
    assert abs(aside) < 0.8 and abs(down) < 0.25
    np.testing.assert_allclose(image[inner][..., 2], 0.5, atol=0.02)
