"""Frames are what a player shows: in time, upright, with square pixels, in a screen's colors."""

import subprocess

import numpy as np
import pytest
from PIL import Image

from mvdust3r_jax.media import video_frames
from mvdust3r_jax.media.kinds import ImageError
from tests.media import profiles
from tests.media.clips import encode, uneven

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
QUARTERS = np.array([[200, 50, 50], [50, 160, 60], [40, 60, 200], [235, 235, 235]])


def quarters(colors, full, side=128, count=4):
    """Four flat quarters of the colors (in [0, 1]), as integers up to ``full``."""
    coded = np.round(np.clip(colors, 0, 1) * full).astype(np.uint8 if full == 255 else np.uint16)
    frame = coded.reshape(2, 2, 3).repeat(side // 2, 0).repeat(side // 2, 1)
    return np.repeat(frame[None], count, 0)


def middles(photo):
    h, w = photo.pixels.shape[:2]
    return photo.pixels[h // 4 :: h // 2, w // 4 :: w // 2].reshape(4, 3).astype(int)


def h264(matrix, primaries="unknown", transfer="unknown", told=True):
    space = {"bt601": "smpte170m", "bt2020": "bt2020nc"}.get(matrix, matrix) if told else "unknown"
    chain = f"scale=out_color_matrix={matrix}:out_range=tv,format=yuv444p,setparams="
    chain += f"colorspace={space}:color_primaries={primaries}:color_trc={transfer}"
    return ["-vf", chain, "-c:v", "libx264", "-crf", "2"]


def test_even_is_even_in_time(tmp_path):
    """30 frames a second, then two: the brightness of the chosen frames grows evenly."""
    path = uneven(tmp_path / "a.mp4")
    shown = video_frames.read_frames(path, 6, "even")
    brightness = [photo.pixels.mean() for photo in shown]
    np.testing.assert_allclose(brightness, [20, 60, 100, 140, 180, 220], atol=6)


@pytest.mark.parametrize(("degrees", "order"), [(90, [2, 0, 3, 1]), (180, [3, 2, 1, 0])])
def test_display_matrix_turns_the_frames(tmp_path, degrees, order):
    """The quarters lie where a player shows them."""
    frames = quarters(QUARTERS / 255, 255)[:, :, :96]
    plain = encode(tmp_path / "a.mp4", frames, "rgb24", *h264("bt709"))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation", str(-degrees)]
    turned = tmp_path / "b.mp4"
    subprocess.run([*command, "-i", str(plain), "-c", "copy", str(turned)], check=True)
    photo = video_frames.read_frames(turned, 1)[0]
    assert photo.original_size == ((96, 128) if degrees == 90 else (128, 96))
    upright = np.rot90(frames[0], -degrees // 90)
    assert np.abs(photo.pixels.astype(int) - upright).mean() < 3


@pytest.mark.parametrize(("ratio", "width"), [("4/3", 128), ("8/9", 85)])
def test_pixels_are_square(tmp_path, ratio, width):
    """Of 96 x 64 anamorphic pixels: as wide as a player shows them."""
    frames = quarters(QUARTERS / 255, 255)[:, :64, :96]
    options = ["-vf", f"setsar={ratio}", "-c:v", "libx264", "-pix_fmt", "yuv420p"]
    photo = video_frames.read_frames(encode(tmp_path / "a.mp4", frames, "rgb24", *options), 1)[0]
    assert photo.original_size == photo.pixels.shape[:2] == (64, width)


@pytest.mark.parametrize(
    ("matrix", "told", "size"),
    [("bt601", True, 1280), ("bt709", True, 128), ("bt601", False, 128), ("bt709", False, 1280)],
    ids=["601", "709", "untold, small", "untold, large"],
)
def test_ordinary_matrices(tmp_path, matrix, told, size):
    """The colors that were encoded; without a tag the matrix that players take for the size."""
    frames = quarters(QUARTERS / 255, 255, size, 1)
    path = encode(tmp_path / "a.mp4", frames, "rgb24", *h264(matrix, told=told))
    np.testing.assert_allclose(middles(video_frames.read_frames(path, 1)[0]), QUARTERS, atol=4)


def light_of(srgb):
    x = srgb / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


REC2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
WIDE_FROM_709 = np.linalg.solve(
    profiles.xyz_from_rgb(REC2020), profiles.xyz_from_rgb(profiles.SRGB)
)


def hlg(light):
    """HLG's code of display light (1 is 203 of 1000 nits) in BT.2020."""
    display = light * 0.203
    scene = display * (display @ [0.2627, 0.6780, 0.0593])[:, None] ** (-0.2 / 1.2)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
    )


def pq(light):
    y = (light * 203 / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375


@pytest.mark.parametrize(("curve", "name"), [(hlg, "arib-std-b67"), (pq, "smpte2084")])
def test_high_dynamic_range_is_shown_as_on_a_screen(tmp_path, curve, name):
    """Colors of ordinary brightness are those of the ordinary video."""
    frames = quarters(curve(light_of(QUARTERS) @ WIDE_FROM_709.T), 65535)
    options = ["-vf", "scale=out_color_matrix=bt2020nc:out_range=tv", "-c:v", "libx265"]
    x265 = f"log-level=error:colorprim=bt2020:transfer={name}:colormatrix=bt2020nc"
    options += ["-crf", "2", "-pix_fmt", "yuv444p10le", "-x265-params", x265]
    path = encode(tmp_path / "a.mp4", frames, "rgb48le", *options)
    seen = middles(video_frames.read_frames(path, 1)[0])
    np.testing.assert_allclose(seen, QUARTERS, atol=6)


def test_bright_light_keeps_its_hue_and_its_order(tmp_path):
    """Far above a screen's white: nothing is cut to a flat patch, orange stays orange."""
    from mvdust3r_jax.media import tone

    light = np.outer([0.5, 1.0, 2.0, 4.0], [1.0, 0.5, 0.1])
    coded = np.round(pq(light @ WIDE_FROM_709.T) * 65535).astype(np.uint16)
    seen = tone.to_srgb(coded, "bt2020", "smpte2084").astype(int)
    assert (np.diff(seen[:, 0]) > 0).all() and seen.max() <= 255
    assert (seen[:, 0] > seen[:, 1]).all() and (seen[:, 1] > seen[:, 2]).all()


def test_wide_primaries_of_an_ordinary_curve(tmp_path):
    """BT.2020 without HDR: a color of BT.709 inside it comes back."""
    coded = (light_of(QUARTERS) @ WIDE_FROM_709.T) ** (1 / 2.4)
    told = h264("bt2020", "bt2020", "bt2020-10")
    path = encode(tmp_path / "a.mp4", quarters(coded, 65535), "rgb48le", *told)
    seen = middles(video_frames.read_frames(path, 1)[0])
    # What the screen's power makes of it, which is near sRGB's curve but in the shadows.
    expected = np.round(light_of(QUARTERS) ** (1 / 2.4) * 255)
    np.testing.assert_allclose(seen, expected, atol=6)


def test_interlaced_frames_are_whole(tmp_path):
    """A moving edge has no comb: neighboring rows agree."""
    fields = np.zeros((24, 64, 128, 3), np.uint8)
    for i, field in enumerate(fields):
        field[:, : 10 + 4 * i] = 255
    options = ["-vf", "interlace", "-c:v", "libx264", "-flags", "+ildct+ilme", "-crf", "5"]
    path = encode(tmp_path / "a.mp4", fields, "rgb24", *options, "-pix_fmt", "yuv420p", rate=50)
    gray = video_frames.read_frames(path, 3, "even")[1].pixels[..., 0].astype(int)
    assert np.abs(np.diff(gray, axis=0)).max() < 60


def test_color_codings_that_cannot_be_undone_are_refused(tmp_path, monkeypatch):
    """By name, rather than shown in false colors."""
    from mvdust3r_jax.media import video_file

    for line in ("color_space:ictcp", "DOVI configuration record: version: 1.0, profile: 5, l"):
        with pytest.raises(ImageError, match=r"a\.mp4: its color coding, (ictcp|Dolby)"):
            video_file._check_colors(tmp_path / "a.mp4", line)


def test_frames_of_several_sizes_are_named(tmp_path):
    """Recordings of calls change their size; ffmpeg then counts anew, and other frames came."""
    parts = []
    for number, (height, width) in enumerate([(48, 64), (64, 96)]):
        frames = np.full((6, height, width, 3), 100 * number, np.uint8)
        parts.append(encode(tmp_path / f"{number}.ts", frames, "rgb24", "-c:v", "mpeg2video"))
    (tmp_path / "a.mts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(ImageError, match=r"a.mts changes .* midway \(64 x 48, then 96 x 64\)"):
        video_frames.read_frames(tmp_path / "a.mts", 4)
    (tmp_path / "b.mts").write_bytes(2 * parts[0].read_bytes())
    assert len(video_frames.read_frames(tmp_path / "b.mts", 20)) >= 11


def test_sound_alone_and_other_containers_are_named(tmp_path):
    """What the file holds instead is said, not which option of ffmpeg failed."""
    program = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi"]
    subprocess.run([*program, "-i", "sine=d=0.2", str(tmp_path / "a.mp4")], check=True)
    with pytest.raises(ImageError, match=r"a.mp4 cannot be read as a video: it holds no picture"):
        video_frames.read_frames(tmp_path / "a.mp4", 2)
    Image.new("L", (8, 8)).save(tmp_path / "b.gif")
    (tmp_path / "b.gif").rename(tmp_path / "b.mp4")
    with pytest.raises(ImageError, match=r"b.mp4 .* no container of videos that is read \(mov"):
        video_frames.read_frames(tmp_path / "b.mp4", 2)
