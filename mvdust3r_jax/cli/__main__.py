"""``python -m mvdust3r_jax.cli COMMAND``: the same as ``mvdust3r COMMAND``."""

from mvdust3r_jax.cli import program

program()
