"""Pictures that are no pinhole camera's are refused by what their files say."""

import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from mvdust3r_jax.media import photographs, video_frames
from mvdust3r_jax.media.kinds import ImageError
from mvdust3r_jax.media.picture import read_header
from tests.media.clips import encoded

XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {}</rdf:Description></x:xmpmeta>'
ATTRIBUTE = XMP.format('GPano:ProjectionType="{}">')
ELEMENT = XMP.format("><GPano:ProjectionType>{}</GPano:ProjectionType>")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif"])
@pytest.mark.parametrize("told", [ATTRIBUTE, ELEMENT])
def test_panoramas_are_refused_and_flat_photographs_are_not(tmp_path, suffix, told):
    """By Google's tag, before anything is decoded."""
    for kind in ("equirectangular", "cylindrical", "rectilinear"):
        path = tmp_path / f"{kind}.{suffix}"
        save(path, told.format(kind))
        if kind == "rectilinear":
            assert photographs.read_photo(path).mask.all()
            continue
        for read in (read_header, photographs.read_photo):
            with pytest.raises(ImageError, match=rf"{kind}\.{suffix} is a panorama \({kind}\)"):
                read(path)


def save(path, xmp):
    options = {"xmp": xmp.encode()}
    if path.suffix == ".png":
        options = {"pnginfo": PngImagePlugin.PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp)
    Image.fromarray(np.full((16, 32, 3), 90, np.uint8)).save(path, **options)


def test_a_number_in_the_place_of_text_is_passed_over(tmp_path):
    """A damaged TIFF is read as before."""
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[700], directory.tagtype[700] = 7, 4
    Image.new("RGB", (4, 4)).save(tmp_path / "a.tif", tiffinfo=directory)
    assert photographs.read_photo(tmp_path / "a.tif").mask.all()


@pytest.mark.parametrize("mode", ["left_right", "top_bottom", "mono", "block_lr"])
def test_stereo_pairs_within_a_frame_are_refused(tmp_path, mode):
    """Half of each frame is another eye's; one eye's whole frames are pictures as any."""
    tag = ["-metadata:s:v:0", f"stereo_mode={mode}", "-c:v", "libx264", "-pix_fmt", "yuv420p"]
    path = encoded(tmp_path / "a.mkv", options=tag)
    if mode in ("mono", "block_lr"):
        assert len(video_frames.read_frames(path, 2)) == 2
        return
    layout = {"left_right": "side by side", "top_bottom": "top and bottom"}[mode]
    with pytest.raises(ImageError, match=rf"a\.mkv holds two pictures .* \(stereo, {layout}\)"):
        video_frames.read_frames(path, 2)


def with_sphere(data):
    """An MP4 whose track says, in a box of XML, that its frames map a sphere."""
    space = "http://ns.google.com/videos/1.0/spherical/"
    told = {"Spherical": "true", "Stitched": "true", "StitchingSoftware": "test"}
    told["ProjectionType"] = "equirectangular"
    tags = "".join(f"<GSpherical:{key}>{value}</GSpherical:{key}>" for key, value in told.items())
    xml = f'<rdf:SphericalVideo xmlns:GSpherical="{space}">{tags}</rdf:SphericalVideo>'.encode()
    body = bytes.fromhex("ffcc8263f8554a938814587a02521fdd") + xml
    box = struct.pack(">I4s", 8 + len(body), b"uuid") + body
    data, end = bytearray(data), 0
    for kind in (b"moov", b"trak"):
        at = data.index(kind) - 4
        length = struct.unpack_from(">I", data, at)[0]
        struct.pack_into(">I", data, at, length + len(box))
        end = at + length
    return bytes(data[:end] + box + data[end:])


def test_videos_of_a_sphere_are_refused(tmp_path):
    """They say so in a box of the track; the same frames without it are read."""
    path = encoded(tmp_path / "a.mp4")
    assert len(video_frames.read_frames(path, 2)) == 2
    path.write_bytes(with_sphere(path.read_bytes()))
    with pytest.raises(ImageError, match=r"a\.mp4 is a 360-degree video \(equirectangular\)"):
        video_frames.read_frames(path, 2)


@pytest.mark.parametrize(
    ("name", "size", "refused"),
    [("a.insp", (16, 32), True), ("a.insp", (24, 32), False), ("a.jpg", (16, 32), False)],
)
def test_fisheye_pairs_of_360_degree_cameras(tmp_path, name, size, refused):
    """By their ending and shape; the same camera's flat photographs have another shape."""
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / name, "JPEG")
    if refused:
        with pytest.raises(ImageError, match=r"a\.insp shows the fisheye views"):
            photographs.read_photo(tmp_path / name)
    else:
        assert photographs.read_photo(tmp_path / name).original_size == size


def test_videos_of_360_degree_cameras(tmp_path):
    """All with GoPro's ending; Insta360's where a frame is as wide as high, one circle's."""
    for name in ("a.360", "a.insv"):
        path = encoded(tmp_path / "a.mp4").rename(tmp_path / name)
        with pytest.raises(ImageError, match=rf"{name} shows the fisheye views"):
            video_frames.read_frames(path, 2)
