"""One command line, from its words to the exit code: parse, load the command, run, explain.

Nothing is imported here that parsing and ``--help`` do not need; JAX comes with the command.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType

from mvdust3r_jax import __version__
from mvdust3r_jax.cli.console import Console, open_streams
from mvdust3r_jax.cli.signals import held, interruptible, leave
from mvdust3r_jax.cli.values import UsageError

COMMANDS = ("reconstruct", "view", "render", "convert", "export", "bench")
EXIT_INPUT, EXIT_USAGE, EXIT_MEMORY, EXIT_FAULT, EXIT_INTERRUPTED = 1, 2, 3, 70, 130
# What bad input, files and missing extras raise; everything else is a fault of this program.
_EXPECTED = (ValueError, OSError, ImportError)
_DESCRIPTION = "Dense points, cameras and Gaussian splats from photographs of one scene."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    console, args = Console(), argparse.Namespace()
    try:
        args = command_parsers()[0].parse_args(argv)
        console = Console(quiet=args.quiet, as_json=args.json)
        # Libraries' remarks on files that are as they should be; errors still come.
        logging.getLogger("absl").setLevel(logging.ERROR)
        console.finish(_command(args.command).run(args, console))
        return 0
    except KeyboardInterrupt as interruption:
        console.fail("interrupted")
        return getattr(interruption, "exit_code", EXIT_INTERRUPTED)
    except Exception as error:
        if "--debug" in argv:
            traceback.print_exc()
        return _explain(error, console, args)


def program() -> None:
    """``mvdust3r`` as a program: `main` with signals that clean up."""
    open_streams()
    try:
        with interruptible():
            code = main()
    except KeyboardInterrupt as interruption:  # a second one, or one before `main` could see it
        code = getattr(interruption, "exit_code", EXIT_INTERRUPTED)
    if code >= 128:
        leave(code)
    sys.exit(code)


def _command(name: str) -> ModuleType:
    """The command's module, with JAX, which every command needs."""
    with held():
        importlib.import_module("jax")
        return importlib.import_module(f"mvdust3r_jax.cli.{name}")


def command_parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of everything, and that of each command by name."""
    parser = argparse.ArgumentParser("mvdust3r", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"mvdust3r {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"mvdust3r_jax.cli.arguments.{name}")
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog="examples:\n" + "\n".join(f"  {example}" for example in module.EXAMPLES),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        output = command.add_argument_group("output")
        output.add_argument("--quiet", action="store_true", help="say nothing but errors")
        output.add_argument("--json", action="store_true", help="print the result as JSON")
        output.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    return parser, commands.choices


def _explain(error: Exception, console: Console, args: argparse.Namespace) -> int:
    """One sentence and, where there is one, a hint; the exit code."""
    from mvdust3r_jax.reconstruction.memory import MemoryLimitError

    # JAX adds notes of its own to exceptions that pass through it: several lines each.
    hints = [note for note in getattr(error, "__notes__", []) if "\n" not in note]
    if isinstance(error, UsageError):
        console.fail(str(error), *hints)
        return EXIT_USAGE
    if isinstance(error, MemoryLimitError):
        console.fail(str(error), *(hints or _fewer_views(args)))
        return EXIT_MEMORY
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        console.fail("the device ran out of memory", *_fewer_views(args))
        return EXIT_MEMORY
    if isinstance(error, OSError) and error.strerror:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hints.append("free some space; results go to --out, kept programs to the user's cache")
        # Of two names, as of a renaming, the second is the one that was meant to be.
        name = error.filename2 or error.filename or ""
        console.fail(f"{name}: {error.strerror}".lstrip(": "), *hints)
        return EXIT_INPUT
    if isinstance(error, _EXPECTED):
        console.fail(str(error), *hints)
        return EXIT_INPUT
    reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    console.fail(f"a fault of this program: {reason}", "see where with --debug, and report it")
    return EXIT_FAULT


def _fewer_views(args: argparse.Namespace) -> list[str]:
    """The hint for want of memory, by the option that the command has; none where it has none."""
    if "max_views" in args:
        return ["take fewer views: --max-views N takes N, evenly chosen"]
    return ["take fewer views: --views N"] if "views" in args else []
