"""Running ffmpeg in a process of its own (extra ``demo``: imageio-ffmpeg), and its complaints.

A damaged file cannot take this process down, and ffmpeg never gets a file it may not read.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from mvdust3r_jax.media.kinds import ImageError

# ffmpeg's names of these containers. Others (concat lists, playlists) can name further files, and
# ffmpeg goes by the content, whatever the file is called.
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg"
# The first stream of moving pictures; covers are none.
FIRST_VIDEO = "V:0"
# Every decoding is stopped after this.
_TIMEOUT_S = 300
_MAX_FRAME_PIXELS = 64_000_000
_LONGEST_COMPLAINT = 200
# The first release with every option that is used here, and what earlier ones say.
OLDEST = "5.1"
_SIGN_OF_AGE = b"Unrecognized option"


def read(path: Path, *options: str, stream: str = FIRST_VIDEO) -> subprocess.CompletedProcess:
    """Run ffmpeg on one stream of a file; it may read nothing but that file. Its output is bytes.

    Raises:
      ImageError: it took too long, or was ended by a signal. RuntimeError: this ffmpeg is too old.
      ModuleNotFoundError, FileNotFoundError: as for `program`.
    """
    command = [program(), "-nostdin", "-hide_banner", "-protocol_whitelist", "file,pipe"]
    command += ["-format_whitelist", DEMUXERS, "-max_pixels", str(_MAX_FRAME_PIXELS)]
    command += ["-i", f"file:{path}", "-map", f"0:{stream}", *options, "-"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise ImageError(f"{path}: decoding took longer than {_TIMEOUT_S} s") from error
    if done.returncode < 0:
        error = ImageError(f"{path} made ffmpeg end by signal {-done.returncode} ({command[0]})")
        error.add_note("convert it to MP4, or let $IMAGEIO_FFMPEG_EXE name another ffmpeg")
        raise error
    if done.returncode and _SIGN_OF_AGE in done.stderr:
        said = done.stderr.decode(errors="replace").strip().splitlines()[0]
        raise RuntimeError(f"{command[0]} is too old: ffmpeg {OLDEST} is needed ({said})")
    return done


def write(chunks: Iterable[memoryview], *options: str, task: str) -> None:
    """Run ffmpeg with bytes on its standard input, one chunk after the other as they are made.

    task: what it is to do, as a message says it ("encode a.mp4").

    Raises:
      RuntimeError: it could not, and what it says. ModuleNotFoundError, FileNotFoundError: as for
      `program`.
    """
    command = [program(), "-y", "-hide_banner", "-v", "level+error", *options]
    with tempfile.TemporaryFile() as log:
        running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        # It ends early where it cannot go on; what is left to flush breaks at the end then.
        with contextlib.suppress(BrokenPipeError), running:
            for chunk in chunks:
                running.stdin.write(chunk)
        if running.returncode != 0:
            log.seek(0)
            said = complaints(log.read().decode("utf-8", "replace"))
            why = said[0] if said else f"it ended with code {running.returncode}"
            raise RuntimeError(f"ffmpeg could not {task}: {why}")


def complaints(said: str) -> list[str]:
    """The errors among what ffmpeg says with ``-v level+...``, in its order."""
    lines = [line for line in said.splitlines() if "[error]" in line or "[fatal]" in line]
    return [re.sub(r"^(\[[^\]]*\] )+", "", line)[:_LONGEST_COMPLAINT] for line in lines]


def program() -> str:
    """Path of ffmpeg. It is run directly: the package's own writer forks, which JAX warns of.

    Raises:
      ModuleNotFoundError: without imageio-ffmpeg. FileNotFoundError: it names no program.
    """
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise ModuleNotFoundError(
            "videos need ffmpeg: pip install 'mvdust3r-jax[demo]' (or imageio-ffmpeg)"
        ) from error
    found = imageio_ffmpeg.get_ffmpeg_exe()
    if shutil.which(found) is None:
        raise FileNotFoundError(f"{found} ($IMAGEIO_FFMPEG_EXE) is no ffmpeg that can be run")
    return found
