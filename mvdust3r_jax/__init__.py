"""MV-DUSt3R+ in JAX/Flax: pointmaps, cameras and Gaussian splats from unposed photographs."""
