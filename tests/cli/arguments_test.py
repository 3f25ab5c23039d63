"""Arguments: parsed without JAX; their words are those of the modules that use them."""

import subprocess
import sys
from typing import get_args

import pytest

from mvdust3r_jax import VARIANTS, __version__, cli
from mvdust3r_jax.cameras import known
from mvdust3r_jax.cli import values
from mvdust3r_jax.cli.arguments import words
from mvdust3r_jax.export import EXPORTERS, drawing
from mvdust3r_jax.media import fitting, video_frames
from mvdust3r_jax.reconstruction import network, reconstruct
from mvdust3r_jax.weights import files, hub, places

HEAVY = ("jax", "flax", "numpy", "PIL", "scipy", "viser", "safetensors")


def test_words_are_those_of_the_modules():
    """What `words` repeats."""
    assert words.FITS == fitting.FITS and words.FRAME_CHOICES == video_frames.CHOICES
    assert words.USES == get_args(known.Use) and words.SHIPPED == places.SHIPPED
    assert words.PUBLISHED == tuple(hub.PUBLISHED) and words.WEIGHT_DTYPES == tuple(files.DTYPES)
    assert words.VARIANTS == tuple(sorted(VARIANTS))
    assert values.REFERENCES == network.WORDS and list(words.FORMATS) == list(EXPORTERS)
    assert words.REFS == reconstruct.DEFAULT_REFS and words.VIDEO_PX == drawing.VIDEO_PX


def test_help_and_usage_errors_import_nothing_heavy():
    """Help of everything and of each command, the version, and a wrong flag, in a fresh process."""
    lines = [["--help"], ["--version"], ["reconstruct", "--wrong"], ["bench", "--views", "x"], []]
    lines += [[name, "--help"] for name in cli.COMMANDS]
    code = (
        "import sys\nfrom mvdust3r_jax import cli\n"
        f"for line in {lines!r}:\n"
        "    try: cli.main(line)\n"
        "    except SystemExit as done: print(done.code, file=sys.stderr)\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = done.stderr.splitlines()
    assert said[-1] == "heavy: []", said[-1]
    assert [line for line in said if line.isdigit()] == [*"00222", *"0" * len(cli.COMMANDS)]


def test_the_package_is_lazy_and_its_names_are_there():
    """Importing it loads nothing heavy; every public name comes when it is asked for."""
    code = (
        "import sys, mvdust3r_jax\n"
        f"assert not [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print(sorted(n for n in mvdust3r_jax.__all__ if getattr(mvdust3r_jax, n) is not None))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = ["MVDust3r", "Model", "ModelConfig", "Scene", "VARIANTS", "load_model", "reconstruct"]
    assert done.stdout.strip() == repr([*names, "refine"])


def test_version(capsys):
    """Of the package, under the program's name."""
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"mvdust3r {__version__}\n"
