"""Terms that render the predicted Gaussians in the true cameras."""
