"""Files that appear whole or not at all, folders of results, and the file of a scene.

A manifest tells this program's files from the user's, which are never replaced or removed.
May use: types. Door: ``atomic.whole_file``, ``results.results_folder``,
``scene_arrays.SceneArrays``.
"""
