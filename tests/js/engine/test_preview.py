"""What the browser shows of a latent that is still being made is what the server shows."""

import base64

import numpy as np
import pytest

from diffusion.preview import _principal_grey, apply_map, heading_for
from tests.js.engine.gpu import decoded, encoded

SHAPE = [16, 6, 9]
LEVELS = [1.0, 0.7, 0.25, 0.0]
MAP = {
    "matrix": [[round(np.sin(3 * c + k) / 4, 6) for k in range(3)] for c in range(16)],
    "bias": [0.5, 0.4, 0.6],
}
RUN = """
const floats = (text) =>
  new Float32Array(Uint8Array.from(atob(text), (byte) => byte.charCodeAt(0)).buffer);
const [map, levels, shape, first, ...others] = args;
const previews = new m.Previews(m.readPreviewMap(map, 16), floats(levels), floats(first), shape);
return others.map((latent, index) => {
  const { width, height, rgba } = previews.after(index + 1, floats(latent));
  return [width, height, base64(rgba)];
});
"""


def latents() -> list[np.ndarray]:
    """Some that have shapes in them, as pictures have."""
    rng = np.random.default_rng(5)
    waves = np.sin(np.arange(54).reshape(1, 6, 9) / 5 + rng.uniform(0, 6, (4, 1, 1)))
    mixed = np.tensordot(rng.standard_normal((16, 4)) * [3, 1, 0.5, 0.2], waves, axes=1)
    noise = rng.standard_normal(SHAPE)
    return [(level * noise + (1 - level) * mixed).astype(np.float32) for level in LEVELS]


@pytest.mark.parametrize("preview", [MAP, None], ids=["a map", "grey"])
def test_the_preview_of_every_step_is_pythons(engine, preview) -> None:
    steps = latents()
    levels = np.array(LEVELS, np.float32)
    found = engine("preview", RUN, preview, encoded(levels), SHAPE, *map(encoded, steps))
    for number, (width, height, rgba) in enumerate(found):
        heading = heading_for(
            steps[number], steps[number + 1], float(levels[number]), float(levels[number + 1])
        )
        theirs = _principal_grey(heading) if preview is None else apply_map(heading, preview)
        assert (width, height) == (9, 6)
        ours = decoded(rgba, 6, 9, 4, dtype="u1")
        assert (ours[..., 3] == 255).all()
        assert np.abs(ours[..., :3].astype(int) - theirs).max() <= 1
        assert np.ptp(ours[..., 0].astype(int)) > 50


@pytest.mark.parametrize(
    "preview",
    [
        {},
        {"matrix": MAP["matrix"][:4], "bias": MAP["bias"]},
        {"matrix": MAP["matrix"], "bias": [0.5, "a", 0.5]},
        {"matrix": [[1, 2]] * 16, "bias": MAP["bias"]},
        {"matrix": "abc", "bias": MAP["bias"]},
    ],
    ids=["empty", "four channels", "a letter", "two colours", "a word"],
)
def test_what_is_no_map_makes_grey(engine, preview) -> None:
    assert engine("preview", "return m.readPreviewMap(args[0], 16);", preview) is None


def test_a_latent_without_any_contrast_is_a_grey_square(engine) -> None:
    flat = encoded(np.ones(SHAPE, np.float32))
    [[_, _, rgba]] = engine("preview", RUN, None, encoded(np.array([1, 0])), SHAPE, flat, flat)
    assert set(base64.b64decode(rgba)) <= {127, 128, 255}
