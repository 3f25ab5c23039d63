"""Everything that touches bytes: generated rooms, RGB-D folders, released files, the pipeline."""
