"""The published MV-DUSt3R trajectory files (HDF5) as a TFDS data set.

May use: stored, rgbd (how poses and intrinsics are read, the splits). Door: ``builder.Released``,
``reader.PathMap``.
"""
