"""The networks, from small pieces to the whole model with its variants; their operations counted.

May use: types. Door: ``mvdust3r.MVDust3r``, ``config.ModelConfig``, ``config.VARIANTS``.
"""
