"""Small videos whose brightness counts their frames (test helper)."""

import subprocess

import numpy as np
import pytest


def encoded(path, count=8, value=100, options=()):
    """A video of 32 x 32 gray frames whose brightness is ``value`` plus their number."""
    gray = value + np.arange(count) % 100
    frames = np.broadcast_to(gray[:, None, None, None], (count, 32, 32, 3)).astype(np.uint8)
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-f", "rawvideo"]
    command += ["-pix_fmt", "rgb24", "-s", "32x32", "-r", "10", "-i", "-", *options, str(path)]
    subprocess.run(command, input=np.ascontiguousarray(frames).tobytes(), check=True)
    return path
