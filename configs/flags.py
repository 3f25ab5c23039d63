"""Command-line flags of training and evaluation, and how a program with them is started.

A program calls `define` when it is run as one (so that others can import it), then `run`.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from configs.checks import closest
from mvdust3r_jax.storage.places import as_path

# --config.NAME, whose value stands behind "=" or is the next entry.
_OVERRIDE = re.compile(r"--?config\.([\w.]+)")


def define(config: str, workdir: str) -> None:
    """The common flags; the two texts say what this program's config and workdir are."""
    config_flags.DEFINE_config_file("config", None, config)
    flags.DEFINE_string("workdir", None, workdir)
    flags.DEFINE_bool(
        "distributed", False, "Several processes, found out from the cluster (TPU pods, SLURM)"
    )
    flags.DEFINE_string("coordinator", "", "Several processes: HOST:PORT of the first")
    flags.DEFINE_integer("num_processes", 1, "With --coordinator: how many")
    flags.DEFINE_integer("process_id", 0, "With --coordinator: which one this is")
    flags.mark_flags_as_required(["config", "workdir"])


def run(main: Callable[[Any], None]) -> None:
    """Parses the command line and calls ``main`` with the flags; wrong ones end in one line."""
    app.run(lambda argv: main(flags.FLAGS), flags_parser=_parsed)


def start_processes(options: Any) -> None:
    """Joins the other processes, where there are any; before anything else touches a device."""
    import jax

    if options.coordinator:
        jax.distributed.initialize(options.coordinator, options.num_processes, options.process_id)
    elif options.distributed:
        jax.distributed.initialize()


def work_folder(text: str) -> Any:
    """The workdir: a ``Path``, or an ``epath.Path`` of a bucket for ``gs://BUCKET/FOLDER``."""
    return as_path(text)


def _parsed(argv: Sequence[str]) -> list[str]:
    file = config_file(argv)
    if file and not Path(file.partition(":")[0]).is_file():
        sys.exit(f"error: there is no config file {file}")
    try:
        rest = flags.FLAGS(list(argv))
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        sys.exit(f"error: {_wrong_override(argv) or _shortened(error, file)}")
    if len(rest) > 1:
        sys.exit(f"error: unexpected arguments {rest[1:]}; options start with --")
    return rest


def config_file(argv: Sequence[str]) -> str:
    """What --config names, '' where it is not given."""
    for entry, after in itertools.zip_longest(argv, argv[1:], fillvalue=""):
        name, equals, value = entry.partition("=")
        if name in ("--config", "-config"):
            return value if equals else after
    return ""


def _wrong_override(argv: Sequence[str]) -> str:
    """Which ``--config.name`` does not exist, and the closest that does; '' if all exist."""
    try:
        config = _loaded(config_file(argv))
    except Exception:  # told by the caller, who has the first error
        return ""
    for dotted in [found[1] for entry in argv if (found := _OVERRIDE.match(entry))]:
        known = config
        for name in dotted.split("."):
            names = list(known.keys()) if hasattr(known, "keys") else []
            if name not in names:
                return f"unknown field --config.{dotted}{closest(name, names)}"
            known = known[name]
    return ""


def _loaded(path: str) -> Any:
    """The config of a file, named with or without ``:argument``."""
    file, _, argument = path.partition(":")
    spec = importlib.util.spec_from_file_location("config_named_on_the_command_line", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument) if argument else module.get_config()


def _shortened(error: Exception, file: str) -> str:
    """One line: a locked config lists all of its fields, of which the closest says enough."""
    text = str(error.args[0] if error.args else error)
    if found := re.search(r'Key "(\w+)" does not exist', text):
        hint = re.search(r'Did you mean "(\w+)"', text)
        return f"{file} sets an unknown field {found[1]}" + (
            f" (closest: {hint[1]})" if hint else ""
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "parsing config file" in text:  # a traceback follows, whose end is the reason
        return f"{file}: {lines[-1]}"
    return lines[0] if lines else type(error).__name__
