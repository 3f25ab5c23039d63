"""Evaluation: methods that answer for a batch, their numbers, the run over data sets, the tables.

May use: cameras, geometry, metrics, models, pairwise, splat, storage, types. Door:
``plan.make_plan``, ``runner.Evaluation``, ``methods.METHODS``, ``scores.GEOMETRY``,
``report.COLUMNS``.
"""
