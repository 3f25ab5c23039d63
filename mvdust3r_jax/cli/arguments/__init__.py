"""What commands take: one module each with ``HELP``, ``EXAMPLES`` and ``add_arguments(parser)``.

Nothing here imports JAX or NumPy: flags are parsed, and help is shown, before these are loaded.
"""
