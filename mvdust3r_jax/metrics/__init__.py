"""Errors of pointmaps, poses and images against the truth: pure functions, nearly all jitted.

Chamfer distances by KD-trees and the reading of LPIPS' weights are the host's.

May use: geometry. Doors: ``pointmaps``, ``poses``, ``images``, ``chamfer``, ``lpips``.
"""
