"""Point clouds, cameras, videos and pages read back by real readers equal the exact scene."""

import dataclasses
import errno
import json
import re

import numpy as np
import plyfile
import pytest
import trimesh
from PIL import Image

from mvdust3r_jax import export
from mvdust3r_jax.export import cameras_json, frusta, glb, html, nerfstudio, photographs, preview
from mvdust3r_jax.media.photographs import Photo
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.storage import atomic
from mvdust3r_jax.storage.results import results_folder
from tests.export_scene import box_room


@pytest.fixture(scope="module")
def scene():
    """Three exact views of the box room; one pixel in five is masked out."""
    room = box_room(3)
    room.masks[:, :, ::5] = False
    return room


def flat_points(scene):
    return scene.points[scene.masks]


def test_ply_holds_points_colors_and_confidence(tmp_path, scene):
    """plyfile and trimesh read back every masked pixel's point, color and confidence exactly."""
    export.EXPORTERS["ply"].function(tmp_path / "a.ply", scene)
    vertex = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"]
    xyz = np.stack([vertex[c] for c in "xyz"], axis=-1)
    np.testing.assert_array_equal(xyz, flat_points(scene))
    np.testing.assert_array_equal(vertex["confidence"], scene.confidence[scene.masks])
    colors = np.round(scene.images_01[scene.masks] * 255).astype(np.uint8)
    loaded = trimesh.load(tmp_path / "a.ply")
    np.testing.assert_array_equal(loaded.colors[:, :3], colors)
    np.testing.assert_allclose(loaded.vertices, xyz, atol=0)


def test_glb_is_y_up_with_linear_colors_and_textured_frusta(tmp_path, scene):
    """trimesh reads the points with y and z negated, linear colors, two meshes per camera."""
    glb.write_glb(tmp_path / "a.glb", scene)
    loaded = trimesh.load(tmp_path / "a.glb")
    points = loaded.geometry["points"]
    np.testing.assert_array_equal(points.vertices, flat_points(scene) * [1, -1, -1])
    linear = glb.linear_from_srgb(np.round(scene.images_01[scene.masks] * 255).astype(np.uint8))
    # trimesh keeps 8 bits of the stored floats.
    np.testing.assert_allclose(points.colors[:, :3] / 255, linear, atol=1 / 255)
    assert len(loaded.geometry) == 1 + 2 * len(scene.names)
    picture = loaded.geometry["view 1.jpg_1"]
    assert picture.visual.material.baseColorTexture.size == scene.images_01.shape[2:0:-1]


def test_glb_image_plane_lies_on_the_view_rays(scene):
    """A frustum's corners project to the corners of the image: half a pixel outside its centers."""
    apex_and_corners = frusta.corners(scene, 1, 0.3)
    cam_from_world = np.linalg.inv(scene.world_from_cam[1].astype(np.float64))
    in_cam = apex_and_corners @ cam_from_world[:3, :3].T + cam_from_world[:3, 3]
    np.testing.assert_allclose(in_cam[0], 0, atol=1e-6)
    pixels = in_cam[1:] @ scene.intrinsics[1].T.astype(np.float64) / 0.3
    height, width = scene.images_01.shape[1:3]
    # float32 poses: 1e-6 of the image's width.
    np.testing.assert_allclose(pixels[:, :2], frusta.CORNER_UV * [width, height] - 0.5, atol=1e-4)


def test_empty_scene_still_makes_valid_files(tmp_path, scene):
    """With no point and no pose, where that is asked for: all formats but the videos are valid."""
    empty = dataclasses.replace(scene, masks=np.zeros_like(scene.masks), pose_ok=np.zeros(3, bool))
    formats = [name for name in export.EXPORTERS if name != "mp4"]
    with pytest.raises(export.NoPointsError, match=r"0 of 4,608 points kept .*4,608 outside"):
        export.write(empty, tmp_path, formats)
    assert not list(tmp_path.iterdir())
    export.write(empty, tmp_path, formats, allow_empty=True)
    assert len(plyfile.PlyData.read(tmp_path / "scene.ply")["vertex"].data) == 0
    assert json.loads((tmp_path / "cameras.json").read_text())["views"][0]["world_from_cam"] is None
    with pytest.raises(ValueError, match="no view of this scene has a pose"):
        export.write(empty, tmp_path, ["mp4"], allow_empty=True)
    assert not list(tmp_path.rglob(".partial*"))
    assert not (tmp_path / "videos").exists()


def test_cameras_json_maps_network_pixels_to_original_ones(tmp_path, scene):
    """A point projects by both intrinsics to pixels that the crop and the resize connect."""
    cameras_json.write_cameras(tmp_path / "c.json", scene)
    content = json.loads((tmp_path / "c.json").read_text())
    view = content["views"][2]
    cam_from_world = np.linalg.inv(np.array(view["world_from_cam"]))
    point = cam_from_world[:3, :3] @ scene.points[2, 7, 11].astype(float) + cam_from_world[:3, 3]
    k = {name: np.array(view[name]["intrinsics"]) for name in ("network", "original")}
    network, original = ((k[name] @ point / point[2])[:2] for name in k)
    np.testing.assert_allclose(network, [11, 7], atol=1e-4)
    # The fixture: three times as large, pixel edges aligned, six columns cropped on the left.
    np.testing.assert_allclose(original, [3 * 11.5 - 0.5 + 18, 3 * 7.5 - 0.5], atol=1e-3)
    assert "OpenCV" in content["conventions"]["camera_axes"]


def test_nerfstudio_fields_are_complete_and_opengl(tmp_path, scene):
    """Every field nerfstudio reads is there; points fall on their pixels through its cameras."""
    nerfstudio.write_nerfstudio(tmp_path / "ns", scene)
    content = json.loads((tmp_path / "ns" / "transforms.json").read_text())
    needed = {"file_path", "fl_x", "fl_y", "cx", "cy", "w", "h", "transform_matrix"}
    assert len(content["frames"]) == 3
    assert all(needed <= set(frame) for frame in content["frames"])
    seeds = trimesh.load(tmp_path / "ns" / content["ply_file_path"]).vertices
    frame = content["frames"][1]
    world_to_camera = np.linalg.inv(np.array(frame["transform_matrix"]))
    start = scene.masks[0].sum()
    mine = seeds[start : start + scene.masks[1].sum()]
    x, y, z = (mine @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]).T
    assert (z < 0).all()  # an OpenGL camera looks along -z
    u = frame["fl_x"] * x / -z + frame["cx"]
    v = frame["fl_y"] * -y / -z + frame["cy"]
    row, column = np.nonzero(scene.masks[1])
    # Corner-based pixels at the original resolution: three times (center + 0.5), cropped by 18.
    np.testing.assert_allclose(u, 3 * (column + 0.5) + 18, atol=2e-3)
    np.testing.assert_allclose(v, 3 * (row + 0.5), atol=2e-3)
    # z is up: the ceiling (negative y in the scene) has the larger z.
    assert np.corrcoef(seeds[:, 2], flat_points(scene)[:, 1])[0, 1] < -0.999


def test_frames_of_videos_become_files(tmp_path, scene):
    """Named with an ending and without white space, as large as the cameras say."""
    frames = [
        Photo(np.full((48, 81, 3), 80 * i, np.uint8), None, (96, 162), f"a walk_{i}")
        for i in range(3)
    ]
    named = dataclasses.replace(scene, names=[frame.name for frame in frames])
    assert not photographs.serve_as_they_are(named, frames)
    assert photographs.written_names(named, tmp_path) is None
    photographs.write_photographs(tmp_path, named, frames)
    assert photographs.written_names(named, tmp_path) == [f"a_walk_{i}.jpg" for i in range(3)]
    with Image.open(tmp_path / "images" / "a_walk_2.jpg") as picture:
        assert picture.size == (scene.original_sizes[2, 1], scene.original_sizes[2, 0])
        assert abs(np.asarray(picture).astype(int) - 160).max() < 4
    Image.new("RGB", (96, 162)).save(tmp_path / "images" / "a_walk_2.jpg")
    assert photographs.written_names(named, tmp_path) is None, "one is not what the cameras see"
    same = dataclasses.replace(scene, names=["a b.jpg", "a_b.jpg", "c"])
    names = photographs.file_names(same)
    assert names == ["0000_a_b.jpg", "0001_a_b.jpg", "0002_c.jpg"]
    assert photographs.spaceless_names(same) == ["0000_a_b.jpg", "0001_a_b.jpg", "0002_c"]


def test_names_of_image_files_suit_every_disk(tmp_path, scene):
    """No letter that exFAT or Windows refuses, and none differ in case or composition alone."""
    odd = ["2026-01-02T10:20:30.jpg", "con.png", "what? .jpg"]
    names = photographs.file_names(dataclasses.replace(scene, names=odd))
    assert names == ["2026-01-02T10_20_30.jpg", "_con.png", "what__.jpg"]
    for alike in (["a.jpg", "A.jpg"], ["\u00e9.jpg", "e\u0301.jpg"], ["a?.jpg", "a*.jpg"]):
        names = photographs.file_names(dataclasses.replace(scene, names=[*alike, "b.jpg"]))
        assert [name[:5] for name in names] == ["0000_", "0001_", "0002_"]


def test_files_that_only_need_another_name_keep_every_byte(tmp_path, scene):
    """Of both kinds; what is turned is written upright, a PNG without loss."""
    rng = np.random.default_rng(0)
    size = (scene.original_sizes[0, 1], scene.original_sizes[0, 0])
    noise = [Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8)) for _ in range(3)]
    sources = [tmp_path / name for name in ("a b.jpg", "c:d.png", "turned.png")]
    noise[0].save(sources[0], quality=80)
    noise[1].save(sources[1])
    exif = Image.Exif()
    exif[0x0112] = 6
    noise[2].rotate(90, expand=True).save(sources[2], exif=exif)
    named = dataclasses.replace(scene, names=[source.name for source in sources])
    written = photographs.write_photographs(tmp_path / "out", named, sources)
    assert [path.name for path in written] == ["a_b.jpg", "c_d.png", "turned.png"]
    for source, path in zip(sources[:2], written[:2], strict=True):
        assert path.read_bytes() == source.read_bytes()
    np.testing.assert_array_equal(Image.open(written[2]), noise[2])
    assert photographs.written_names(named, tmp_path / "out") == [p.name for p in written]


@pytest.mark.parametrize("way", ["save", "write"])
def test_another_scene_does_not_get_the_photographs_of_an_earlier_one(tmp_path, scene, way):
    """Though names and sizes are the same: the formats name files as in an empty folder."""
    frames = [
        Photo(np.full((96, 162, 3), 80 * i, np.uint8), None, (96, 162), f"a_{i}.jpg")
        for i in range(3)
    ]
    first = dataclasses.replace(scene, names=[frame.name for frame in frames])
    with results_folder(tmp_path) as stage:
        first.save_arrays(stage / "scene.npz")
        photographs.write_photographs(stage, first, frames)
    second = dataclasses.replace(first, images_01=first.images_01[:, ::-1].copy())
    formats = ["colmap", "nerfstudio"]
    _ = second.save(tmp_path, formats) if way == "save" else export.write(second, tmp_path, formats)
    named = json.loads((tmp_path / "nerfstudio" / "transforms.json").read_text())["frames"]
    assert [frame["file_path"] for frame in named] == first.names
    assert not (tmp_path / "colmap" / "images").exists()
    if way == "write":
        export.write(first, tmp_path, formats)
        assert len(list((tmp_path / "colmap" / "images").iterdir())) == 3


def test_plain_photographs_serve_as_they_are(tmp_path, scene):
    """Upright files under their own names need no copy; turned, renamed or spaced ones do."""
    turned = Image.Exif()
    turned[0x0112] = 6
    picture = Image.new("RGB", (6, 4))
    for name in ("a.jpg", "b.png", "c d.png"):
        picture.save(tmp_path / name)
    picture.save(tmp_path / "turned.jpg", exif=turned)

    def plain(*names, under=None):
        named = dataclasses.replace(scene, names=list(under or names))
        return photographs.serve_as_they_are(named, [tmp_path / name for name in names])

    picture.save(tmp_path / "webp.jpg", "WEBP")
    picture.convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.new("I;16", (6, 4)).save(tmp_path / "deep.png")
    assert plain("a.jpg", "b.png")
    for odd in ("webp.jpg", "cmyk.jpg", "deep.png"):
        assert not plain("a.jpg", odd), odd
    assert not plain("a.jpg", "turned.jpg") and not plain("c d.png", "a.jpg")
    assert not plain("a.jpg", "b.png", under=["x_a.jpg", "x_b.png"])


def test_npz_is_a_scene(tmp_path, scene):
    """The npz format is what `Scene.load` reads, with the filtered mask in it."""
    export.write(scene, tmp_path, ["npz"], export.PointFilter(drop_share=0.5))
    again = Scene.load(tmp_path / "points.npz")
    np.testing.assert_array_equal(again.points, scene.points)
    assert abs(again.masks.sum() / scene.masks.sum() - 0.5) < 0.01


def test_formats_of_another_scene_do_not_stay_beside_it(tmp_path, scene):
    """The same scene's come one after the other; with another one all are replaced."""
    first, second = (Scene(**vars(scene) | {"timings": {"network": s}}) for s in (1.0, 2.0))
    first.save(tmp_path, ["ply"])
    first.save(tmp_path, ["cameras"])
    assert {p.name for p in tmp_path.glob("[!.]*")} == {"scene.npz", "scene.ply", "cameras.json"}
    second.save(tmp_path, ["ply"])
    assert {p.name for p in tmp_path.glob("[!.]*")} == {"scene.npz", "scene.ply"}


def test_contact_sheet_shows_each_view_in_three_rows(scene):
    """The first row of cells is the photographs; a masked pixel is gray in the depth row."""
    sheet = np.asarray(preview.contact_sheet(scene))
    cell = Image.fromarray(np.uint8(np.round(scene.images_01[0] * 255)))
    cell = np.asarray(cell.resize((224, 149), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(sheet[18 : 18 + 149, 4 : 4 + 224], cell)
    depth = preview.depth_colors(scene)
    np.testing.assert_array_equal(depth[:, :, ::5], np.full_like(depth[:, :, ::5], 128))
    assert sheet.shape == (4 + 18 + 3 * (149 + 4), 4 + 3 * (224 + 4), 3)


def test_html_is_self_contained_and_escapes_names(tmp_path, scene):
    """The page refers to nothing outside, hostile names cannot end its script, data parses."""
    hostile = dataclasses.replace(scene, names=["</script><b>{{data}}", "b & c", 'd"e'])
    html.write_html(tmp_path / "p.html", hostile, max_points=500)
    page = (tmp_path / "p.html").read_text("utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)
    assert "http://" not in page and "https://" not in page
    assert page.count("</script>") == 2
    data = json.loads(re.search(r'type="application/json">(.*?)</script>', page, re.S)[1])
    assert [view["name"] for view in data["views"]] == hostile.names
    assert data["points"]["count"] == 500 and data["total_points"] == scene.masks.sum()
    assert set(data["timings"]) == {"network", "poses"}


def test_html_positions_are_within_the_rounding_of_their_box(scene):
    """Packed positions decode to the scene's points within half a step of 16 bits."""
    packed = html.packed_points(scene, 10**6)
    raw = np.frombuffer(html.base64.b64decode(packed["position"]), "<u2").reshape(-1, 3)
    low, high = np.array(packed["low"]), np.array(packed["high"])
    decoded = low + raw / 65535 * (high - low)
    np.testing.assert_allclose(decoded, flat_points(scene), atol=0.51 * (high - low).max() / 65535)
    rank = np.frombuffer(html.base64.b64decode(packed["color"]), np.uint8).reshape(-1, 4)[:, 3]
    confidence = scene.confidence[scene.masks]
    assert np.all(np.diff(rank[np.argsort(confidence)].astype(int)) >= 0)


def test_whole_file_keeps_the_old_one_on_failure(tmp_path):
    """A writer that breaks off (Ctrl-C too) leaves the earlier file and no partial one."""
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic.whole_file(tmp_path / "a.txt") as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "old")]


def test_exporting_again_keeps_what_others_put_there(tmp_path, scene):
    """Photographs beside transforms.json, a database and a dense model beside COLMAP's files."""
    scene.save(tmp_path, ("nerfstudio", "colmap"))
    users = ["nerfstudio/a.jpg", "nerfstudio/images/b.jpg", "colmap/database.db", "colmap/dense/d"]
    for name in users:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("user")
    before = (tmp_path / "scene.npz").read_bytes()
    export.write(scene, tmp_path, ("nerfstudio", "colmap"), export.PointFilter(drop_share=0.5))
    scene.save(tmp_path, ("nerfstudio", "colmap"))
    assert all((tmp_path / name).read_text() == "user" for name in users)
    assert (tmp_path / "scene.npz").read_bytes() == before


def test_formats_appear_together_or_not_at_all(tmp_path, scene, monkeypatch):
    """The second writer breaks off: of the first there is nothing, and the old results stay."""
    export.write(scene, tmp_path, ("cameras",))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(path, scene):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    exporters = export.EXPORTERS | {"glb": export.EXPORTERS["glb"]._replace(function=full)}
    with pytest.raises(OSError, match="No space"):
        export.write(scene, tmp_path, ("cameras", "ply", "glb"), exporters=exporters)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_unknown_format_is_named_before_anything_is_written(tmp_path, scene):
    """One unknown name stops the whole call, and the message lists the formats."""
    with pytest.raises(ValueError, match="'obj'.*ply, glb, 3dgs"):
        export.write(scene, tmp_path, ["ply", "obj"])
    assert not list(tmp_path.iterdir())


def test_scene_save_writes_what_the_table_names(tmp_path, scene):
    """`Scene.save` puts each format under its table name, beside `scene.npz`."""
    paths = scene.save(tmp_path, ("ply", "cameras"))
    assert [p.name for p in paths] == ["scene.npz", "scene.ply", "cameras.json"]
    assert all(p.is_file() for p in paths)
