"""Data sets on disk: what they hold, the TFDS builder, the reader, and batches out of them (Grain).

May use: ``data.augment``, ``data.mixture``, ``data.rooms``. Door: ``write.write_dataset``,
``reader.TrajectorySet``, ``stream.records_source``.
"""
