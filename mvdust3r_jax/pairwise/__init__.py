"""The pairwise baseline: pairs of views through the two-view network, then global alignment.

May use: cameras, geometry, models, chunked. Door: ``network.predict_pairs``,
``global_alignment.global_alignment``, ``alignment_start.scene_graph``.
"""
