"""Warnings of decoders are kept back, and only theirs."""

import threading
import warnings

from mvdust3r_jax.media import decoder_warnings


def test_threads_that_overlap_restore_what_was_set():
    """The first thread leaves while the second is inside: afterwards warnings are shown again."""
    warnings.simplefilter("error")
    before = list(warnings.filters)
    second_inside, first_left = threading.Event(), threading.Event()

    def second():
        with decoder_warnings.ignored():
            second_inside.set()
            first_left.wait(10)

    thread = threading.Thread(target=second)
    with decoder_warnings.ignored():
        thread.start()
        assert second_inside.wait(10)
    assert warnings.filters[0][0] == "ignore", "the second is still inside"
    first_left.set()
    thread.join()
    assert warnings.filters == before
