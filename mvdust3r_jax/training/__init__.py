"""Training: objective, optimizer, one step, how it spreads over chips, checkpoints, metrics.

May use: geometry, metrics, models, splat, storage, weights, types. Door: ``run.make_run`` (the
programs), ``objective.total_loss``, ``checkpoint.Checkpoints``, ``metric_log.MetricLog``; around
the loop ``progress.Report``, ``judge.Judge``, ``skipped.SkippedSteps``.
"""
