"""Data sets on disk: the TFDS builder, the reader, and batches for training out of them (Grain).

May use: what lies below all folders of ``data``. Door: ``builder.SceneBuilder``,
``write.write_dataset``, ``reader.TrajectorySet``, ``stream.RecordsIterator``.
"""
