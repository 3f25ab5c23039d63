"""Errors of pointmaps, poses and images against the truth: pure jitted functions.

May use: geometry. Doors: ``pointmaps``, ``poses``, ``images``, ``chamfer``, ``lpips``.
"""
