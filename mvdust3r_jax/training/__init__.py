"""Training: objective, optimizer, one step, how it spreads over chips, checkpoints, metrics.

May use: geometry, metrics, models, splat, storage, types. Door: ``step.make_train_step``,
``objective.total_loss``, ``parallel``, ``checkpoint.Checkpoints``, ``metric_log.MetricLog``.
"""
