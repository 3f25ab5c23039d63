"""Devices share a batch, and compile each program once."""

import jax.numpy as jnp
import numpy as np
import pytest

import eval as program
from configs import eval_rooms
from mvdust3r_jax.evaluation.devices import Devices


def scaled(c, x, *, times=1):
    return times * c * x


def test_devices_share_a_batch():
    """Spread over eight devices the result is that of one; each shape is compiled once."""
    batch = np.arange(16.0, dtype=np.float32).reshape(8, 2)
    answers = []
    for devices in (Devices(8), Devices(1)):
        placed = devices.place(batch, spread=True)
        result, _, compile_s = devices.run(scaled, (placed,), (jnp.float32(2),))
        assert compile_s > 0
        assert devices.run(scaled, (placed,), (jnp.float32(2),)).compile_s == 0
        answers.append(np.asarray(result))
    np.testing.assert_array_equal(*answers)


def test_options_make_another_program():
    """The same function with another option is not taken for the one compiled before."""
    devices = Devices(1)
    once, thrice = (devices.run(scaled, (jnp.ones(2),), (jnp.ones(()),), times=t) for t in (1, 3))
    np.testing.assert_array_equal(thrice.result, 3 * once.result)


def test_more_devices_than_there_are():
    """An error, not fewer than asked for; of a program before it writes anything."""
    config = eval_rooms.get_config()
    config.devices, config.methods = 9, "constant"
    for make in (lambda: Devices(9), lambda: program.plan_of(config, "")):
        with pytest.raises(ValueError, match=r"devices must be 0 \(all\) to 8, got 9"):
            make()
