"""Everything that touches bytes of data sets: generated rooms, RGB-D folders, released files.

Not installed; the only importer of TFDS and Grain. ``schema``, ``augment``, ``color``, ``overlap``,
``photographic``, ``recolor``, ``sample_place`` and ``surfaces`` lie below its folders, all other
modules above. May use: the package. Door: ``build`` (a command), ``training_batches.make_source``,
``eval_sets.make_eval_set``.
"""
