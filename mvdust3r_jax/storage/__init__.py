"""Files that appear whole or not at all, and the file of a reconstructed scene.

May use: types. Door: ``atomic.whole_file``, ``atomic.whole_folder``, ``scene_arrays.SceneArrays``.
"""
