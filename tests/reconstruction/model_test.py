"""A loaded network as an object: what it says of itself."""


def test_a_model_says_what_it_is_without_its_weights(model):
    """Its configuration, size and name: a notebook shows what a cell ends with."""
    shown = repr(model)
    assert repr(model.config) in shown and "(16, 24)" in shown and "'test'" in shown
    assert len(shown) < len(repr(model.config)) + 100
