"""Weights in files: PyTorch's ``.pth`` both ways, ``.safetensors``, orbax folders; and by name.

May use: models, storage. Door: ``places.find_weights``, ``files.load_weights``,
``files.save_weights``, ``files.convert``; ``port`` for the names and layouts of the releases.
"""
