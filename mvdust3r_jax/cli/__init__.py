"""The command line: ``mvdust3r COMMAND``, one module per command.

`arguments` says what each takes and is all that is loaded to parse it or to show help; a command's
own module has ``run(args, console)``, which returns what ``--json`` prints. Exit codes: 0 done,
1 unusable input or output, 2 wrong usage, 3 not enough memory, 70 a fault of this program, 128 + N
ended by signal N (Ctrl-C: 130).

May use: cameras, export, media, models, reconstruction, storage, viewer, weights. Door: ``main``.
"""

from mvdust3r_jax.cli.commands import COMMANDS as COMMANDS
from mvdust3r_jax.cli.commands import EXIT_FAULT as EXIT_FAULT
from mvdust3r_jax.cli.commands import EXIT_INPUT as EXIT_INPUT
from mvdust3r_jax.cli.commands import EXIT_INTERRUPTED as EXIT_INTERRUPTED
from mvdust3r_jax.cli.commands import EXIT_MEMORY as EXIT_MEMORY
from mvdust3r_jax.cli.commands import EXIT_USAGE as EXIT_USAGE
from mvdust3r_jax.cli.commands import command_parsers as command_parsers
from mvdust3r_jax.cli.commands import main as main
from mvdust3r_jax.cli.commands import program as program
