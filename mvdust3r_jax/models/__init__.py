"""The networks: encoder, multi-view decoder, heads, and the whole model with its variants."""
