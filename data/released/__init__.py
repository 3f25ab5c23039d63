"""The published MV-DUSt3R trajectory files (HDF5) as a TFDS data set."""
