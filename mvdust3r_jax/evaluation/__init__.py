"""Evaluation: methods that answer for a batch, their numbers, reports, plots and tables.

May use: cameras, geometry, metrics, models, pairwise, splat, types. Door: ``methods``, ``scores``,
``report``.
"""
