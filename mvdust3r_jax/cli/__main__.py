"""``python -m mvdust3r_jax.cli COMMAND``: the same as ``mvdust3r COMMAND``."""

import sys

from mvdust3r_jax.cli import main

sys.exit(main())
