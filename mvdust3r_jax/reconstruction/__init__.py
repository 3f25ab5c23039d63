"""From photographs to a scene: one forward pass, then cameras; memory planned, programs exported.

May use: cameras, export, geometry, media, models, splat, storage, types, weights; never training.
Door: ``reconstruct.reconstruct``, ``refine.refine``, ``model.load_model``, ``scene.Scene``,
``serving``.
"""
