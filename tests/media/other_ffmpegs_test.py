"""Another ffmpeg than the one that was installed with us: older, too old, or one that crashes."""

import numpy as np
import pytest

from mvdust3r_jax.media import ffmpeg, video_frames
from mvdust3r_jax.media.kinds import ImageError
from tests.media.clips import encoded, uneven

# Says what 5.1 says: no durations of frames, and its own name of stereo pairs.
OLDER = """
{program} "$@" 2> >(sed -E 's/duration: *[0-9]+ duration_time:[^ ]* //; s/Stereo 3D/stereo3d/' >&2)
"""


@pytest.fixture
def run_by(tmp_path, monkeypatch):
    """A script takes ffmpeg's place; ``{program}`` is the real one."""

    def _run_by(script):
        path = tmp_path / "ffmpeg"
        path.write_text("#!/bin/bash" + script.format(program=ffmpeg.program()))
        path.chmod(0o755)
        monkeypatch.setattr(ffmpeg, "program", lambda: str(path))

    return _run_by


def test_even_is_even_in_time_by_an_older_one(tmp_path, run_by):
    path = uneven(tmp_path / "a.mp4")
    run_by(OLDER)
    brightness = [photo.pixels.mean() for photo in video_frames.read_frames(path, 6, "even")]
    np.testing.assert_allclose(brightness, [20, 60, 100, 140, 180, 220], atol=6)


def test_stereo_pairs_are_refused_by_an_older_one(tmp_path, run_by):
    tag = ["-metadata:s:v:0", "stereo_mode=left_right", "-c:v", "libx264", "-pix_fmt", "yuv420p"]
    path = encoded(tmp_path / "a.mkv", options=tag)
    run_by(OLDER)
    with pytest.raises(ImageError, match="two pictures .* side by side"):
        video_frames.read_frames(path, 2)


def test_one_without_our_options_is_too_old(tmp_path, run_by):
    """Not the video is told to be damaged, as it was when decoding without frames said so."""
    path = encoded(tmp_path / "a.mkv")
    run_by("""
[[ " $* " == *" -fps_mode "* ]] && echo "Unrecognized option 'fps_mode'." >&2 && exit 1
{program} "$@"
""")
    with pytest.raises(RuntimeError, match=r"ffmpeg is too old: ffmpeg 5\.1 is needed .*fps_mode"):
        video_frames.read_frames(path, 2)


def test_a_crash_is_no_empty_video(tmp_path, run_by):
    path = encoded(tmp_path / "a.mkv")
    run_by("\nkill -SEGV $$\n")
    with pytest.raises(ImageError, match=r"a\.mkv made ffmpeg end by signal 11"):
        video_frames.read_frames(path, 2)
