"""What the browser tells a model of time, and reads of quantised rows, is what Python does."""

import base64
from pathlib import Path

import numpy as np
import pytest

from diffusion.packaging.storage import decode, encode, layout_of
from diffusion.plan.transformer import time_waves
from diffusion.schedule import read_schedule_config
from tests.js.engine.gpu import decoded, encoded

EMOJI = Path(__file__).parents[3] / "models/prx-emoji"
FLOATS = """const floats = (text) =>
  new Float32Array(Uint8Array.from(atob(text), (byte) => byte.charCodeAt(0)).buffer);"""


@pytest.mark.parametrize("steps", [1, 8, 28, 100])
def test_time_waves_are_pythons(engine, steps: int) -> None:
    """Angles go up to 1000, where a last digit of float32 is 6e-5."""
    times = read_schedule_config(EMOJI).schedule(steps).times
    time = {"features": 256, "factor": 1000.0, "max_period": 10000}
    body = FLOATS + "return base64(m.timeWaves(floats(args[0]), args[1]));"
    ours = decoded(engine("waves", body, encoded(times), time), steps, 256)
    assert np.abs(ours - time_waves(times, time)).max() < 1.3e-4


@pytest.mark.parametrize("dtype", ["int8", "int4"])
@pytest.mark.parametrize("shape", [(3, 64), (5, 44), (1, 2)])
def test_quantised_rows_are_the_numbers_that_python_reads(engine, dtype, shape) -> None:
    values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    codes, scales = encode(values, dtype)
    layout = layout_of(dtype, shape)
    assert layout.scales is not None
    stored = codes + bytes(layout.scales - len(codes)) + scales
    stored += bytes(layout.nbytes - len(stored))
    body = """
    const data = Uint8Array.from(atob(args[0]), (byte) => byte.charCodeAt(0));
    return base64(m.floatsOf(data, ...args.slice(1)));
    """
    sent = base64.b64encode(stored).decode()
    ours = decoded(engine("package/floats", body, sent, dtype, *shape), *shape)
    assert np.array_equal(ours, decode(stored, dtype, shape))
