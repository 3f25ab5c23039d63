"""Weights in files: PyTorch's ``.pth`` both ways, ``.safetensors``, orbax folders.

May use: models. Door: ``files.load_weights``, ``files.save_weights``, ``files.convert``; ``port``
for the names and layouts of the PyTorch releases.
"""
