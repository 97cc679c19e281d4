"""How alike results are: a tab measures and allows what Python does, to the last limit."""

import base64
import io
import itertools

import numpy as np
import pytest
from PIL import Image

from diffusion import likeness
from tests.js.work.test_pictures import encoded, noise, smooth

MEASURE = """async ([name, ...arrays]) => {
  const m = await import('/static/js/work/likeness.js');
  const floats = (text) => new Float32Array(
    Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const tensor = ([shape, text]) => ({ shape, data: floats(text) });
  const distance = name === 'distanceOfSteps' ? m[name](...arrays.map(([, text]) => floats(text)))
    : name === 'distanceOfPictures' ? m[name](...arrays.map(tensor))
      : m[name](...arrays.map((one) => Object.fromEntries(
        Object.entries(one).map(([half, array]) => [half, tensor(array)]))));
  return distance === Infinity ? 'inf' : distance; }"""
VARIANTS = [
    "",
    "f32",
    "f16",
    "f16 half",
    "half",
    "bf16",
    "int8",
    "int4",
    "int4-f16-f16",
    "int8-f16-f32",
    "f16 int8",
]
KERNELS = [
    "", "baseline", "few 64x128x8x2, many 64x64x16", "few 64x128x8x2, many 128x128x16f16",
    "many 128x128x16f16, attention 64x64x16",
]  # fmt: skip


def sent(array: np.ndarray) -> list[object]:
    data = np.ascontiguousarray(array, np.float32).tobytes()
    return [list(array.shape), base64.b64encode(data).decode()]


def measured(page, name: str, *arrays) -> float:
    args = [
        {half: sent(one) for half, one in array.items()} if isinstance(array, dict) else sent(array)
        for array in arrays
    ]
    return float(page.evaluate(MEASURE, [name, *args]))


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_the_limits_and_the_smallest_change_are_pythons(module_page):
    told = module_page.evaluate(
        """async ([variants, kernels]) => {
          const m = await import('/static/js/work/likeness.js');
          const stages = Object.keys(m.LIMITS);
          return [m.LIMITS, m.SMALLEST_CHANGE, stages.flatMap((stage) => variants.flatMap(
            (one) => variants.map((other) => m.limit(stage, one, other)))),
            variants.concat(['int3', 'f16-f16', 'f16-f16-f16', 'toString']).map(m.isVariant),
            variants.flatMap((one) => kernels.map((names) => m.precision(one, names)))]; }""",
        [VARIANTS, KERNELS],
    )
    limits, smallest, allowed, known, precisions = told
    assert precisions == [
        likeness.precision(variant, kernels) for variant in VARIANTS for kernels in KERNELS
    ]
    assert limits == likeness.LIMITS
    assert smallest == likeness.SMALLEST_CHANGE
    assert allowed == [
        likeness.limit(stage, *both)
        for stage in limits
        for both in itertools.product(VARIANTS, repeat=2)
    ]
    single = [name != "half" and bool(name) and " " not in name for name in VARIANTS]
    assert known == single + [False] * 4


@pytest.mark.parametrize("change", [0.0, 1e-4, 0.03, 1.0])
@pytest.mark.parametrize("off", [0.0, 1e-5, 1e-3, 0.5])
def test_distances_of_steps_are_pythons(module_page, change, off):
    given = random(16, 8, 8)
    computed = given + np.float32(change) * random(16, 8, 8, seed=1)
    claimed = computed + np.float32(off) * random(16, 8, 8, seed=2)
    ours = likeness.distance_of_steps(given, claimed, computed)
    assert measured(module_page, "distanceOfSteps", given, claimed, computed) == pytest.approx(
        ours, rel=1e-3
    )


def test_distances_of_texts_are_pythons_and_other_tokens_are_infinitely_far(module_page):
    texts = {"prompt": random(5, 48), "negative": random(0, 48)}
    near = {**texts, "prompt": texts["prompt"] + np.float32(0.01) * random(5, 48, seed=3)}
    for other in (
        texts, near, {**texts, "prompt": random(6, 48)}, {"prompt": texts["prompt"]},
        {**texts, "negative": random(1, 48)}, {**texts, "more": random(1, 48)},
    ):  # fmt: skip
        ours = likeness.distance_of_texts(other, texts)
        assert measured(module_page, "distanceOfTexts", other, texts) == pytest.approx(ours)


def test_distances_of_pictures_are_pythons(module_page):
    pixels = np.random.default_rng(1).integers(0, 256, (9, 7, 3), np.uint8)
    other = np.where(pixels < 250, pixels + 1, pixels).astype(np.uint8)
    for one in (pixels, other, np.zeros_like(pixels)):
        ours = likeness.distance_of_pictures(one, pixels)
        assert measured(module_page, "distanceOfPictures", one, pixels) == pytest.approx(ours)


READ = """async ([png, width, height]) => {
  const m = await import('/static/js/work/picture-pixels.js');
  const bytes = Uint8Array.from(atob(png), (c) => c.charCodeAt(0));
  try {
    const { shape, data } = await m.pixelsOf(bytes, width, height);
    return [shape, btoa(String.fromCharCode(...data))];
  } catch (error) {
    return `${error.name}: ${error.message}`;
  } }"""


def read(page, png: bytes, width: int, height: int):
    return page.evaluate(READ, [base64.b64encode(png).decode(), width, height])


@pytest.mark.parametrize("pixels", [smooth(64, 48), noise(33, 17), noise(1, 1)], ids=str)
def test_the_pixels_of_a_tabs_png_are_read_to_the_last_bit(module_page, pixels):
    height, width, _ = pixels.shape
    png, _kind = encoded(module_page, "pngOf", pixels, {"prompt": "a rocket"})
    shape, data = read(module_page, png, width, height)
    assert shape == [height, width, 3]
    assert base64.b64decode(data) == pixels.tobytes()


def test_pillows_png_with_any_filter_is_read_too_and_what_is_no_such_picture_is_refused(
    module_page,
):
    pixels = smooth(40, 30)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    png = out.getvalue()
    assert base64.b64decode(read(module_page, png, 30, 40)[1]) == pixels.tobytes()
    grey = io.BytesIO()
    Image.fromarray(pixels[:, :, 0]).save(grey, "PNG")
    for wrong, width, height in (
        (png, 31, 40), (png[:-20], 30, 40), (png[: len(png) // 2], 30, 40), (b"no png", 30, 40),
        (grey.getvalue(), 30, 40), (b"", 1, 1),
    ):  # fmt: skip
        assert read(module_page, wrong, width, height).startswith("PictureError: ")
