"""Frames, cameras, pointmaps and alignments: small pure functions over ``[..., n]`` arrays."""
