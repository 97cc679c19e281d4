"""Every shader gives what its twin gives, over sizes with tails in every dimension.

Buffers begin as NaN, so reading what nobody wrote, or leaving out an element, fails. The device has
WebGPU's default limits and no feature.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffusion.backends.wgpu_device import DEFAULT_LIMITS, Device
from diffusion.packaging.storage import DTYPES, DType
from diffusion.plan import dcae_kernels, kernels, norm_kernels, tiles
from diffusion.plan.rotations import turns
from diffusion.plan.twins import TWINS
from tests.diffusion.plan.conftest import WGSL
from tests.diffusion.plan.single import Operation, distance

CLOSE = 2e-6
SMALL = tiles.SMALL_TILE


def check(device: Device, operation: Operation, *results: str, tolerance: float = CLOSE) -> None:
    for ours, twins in operation.both(device, *results):
        assert np.isfinite(twins).all()
        assert distance(ours, twins) < tolerance


def test_every_shader_has_a_twin_of_its_name() -> None:
    assert {path.stem for path in WGSL.glob("*.wgsl")} == TWINS.keys()


def test_the_device_is_no_better_than_any_browsers(device: Device) -> None:
    for name, value in DEFAULT_LIMITS.items():
        assert device.gpu.limits[name] == value, name
    assert not {"shader-f16", "subgroup", "subgroups"} & set(device.gpu.features)


@pytest.mark.parametrize("matrix_type", DTYPES)
@pytest.mark.parametrize("sizes", [(1, 4, 4), (65, 68, 20), (130, 132, 36), (3, 260, 1000)])
def test_matmul(device: Device, sizes: tuple[int, int, int], matrix_type: DType) -> None:
    rows, columns, inner = sizes
    operation = Operation(matrix_type)
    kernels.matmul(
        operation.stage,
        operation.tensor("left", operation.random(rows, inner)),
        operation.matrix("weight", columns, inner),
        operation.output("out", rows, columns),
        rows=rows,
        columns=columns,
        inner=inner,
        tile=SMALL,
    )
    check(device, operation, "out")


def test_matmul_in_large_tiles(device: Device) -> None:
    operation = Operation("f16")
    kernels.matmul(
        operation.stage,
        operation.tensor("left", operation.random(131, 44)),
        operation.matrix("weight", 140, 44),
        operation.output("out", 131, 140),
        rows=131,
        columns=140,
        inner=44,
        tile=tiles.TILE,
    )
    check(device, operation, "out")


@pytest.mark.parametrize(
    "after",
    [{"silu": True, "bias": True}, {"gate": True}, {"add": True, "bias": True}, {"paired": True}],
    ids=lambda after: "+".join(after),
)
def test_matmul_and_what_follows_it(device: Device, after: dict[str, Any]) -> None:
    rows, columns, inner = 67, 72, 28
    operation = Operation("f16")
    options: dict[str, Any] = {"add": after.get("add", False), "silu": after.get("silu", False)}
    if "bias" in after:
        options["bias"] = operation.weight("bias", operation.random(columns))
    if "gate" in after:
        operation.tensor("step", np.array([2], np.uint32))
        table = operation.tensor("table", operation.random(3, 2 * columns + 4))
        options["gate"] = kernels.Gate(table, 2 * columns + 4, columns)
    width = columns // 2 if "paired" in after else columns
    kernels.matmul(
        operation.stage,
        operation.tensor("left", operation.random(rows, inner)),
        operation.matrix("weight", columns, inner),
        operation.tensor("out", operation.random(rows, width), "state"),
        rows=rows,
        columns=columns,
        inner=inner,
        paired="paired" in after,
        tile=SMALL,
        **options,
    )
    check(device, operation, "out")


def test_gelu_of_large_numbers_is_finite(device: Device) -> None:
    operation = Operation()
    left = np.array([[1e4, 0, 0, 0], [-1e4, 0, 0, 0]], np.float32)
    operation.matrix("weight", 8, 4, value=np.ones((8, 4), np.float32))
    kernels.matmul(
        operation.stage,
        operation.tensor("left", left),
        "weight",
        operation.output("out", 2, 4),
        rows=2,
        columns=8,
        inner=4,
        paired=True,
        tile=SMALL,
    )
    [(ours, twins)] = operation.both(device, "out")
    assert np.allclose(ours, twins)


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((5, 7, 20, 68), {}),
        ((1, 1, 4, 4), {}),
        ((5, 7, 20, 68), {"upsample": 2}),
        ((9, 8, 12, 8), {"norm": True, "silu": True, "add": True}),
        ((9, 7, 24, 12), {"kernel": 1, "norm": True}),
        ((3, 5, 12, 8), {"bias": None}),
    ],
    ids=lambda value: "+".join(value) or "plain" if isinstance(value, dict) else None,
)
@pytest.mark.parametrize("matrix_type", DTYPES)
def test_conv2d(
    device: Device,
    sizes: tuple[int, int, int, int],
    options: dict[str, Any],
    matrix_type: DType,
) -> None:
    rows, columns, channels_in, channels_out = sizes
    operation = Operation(matrix_type)
    given = {"bias": operation.weight("bias", operation.random(channels_out))} | options
    kernel, upsample = given.setdefault("kernel", 3), given.get("upsample", 1)
    if "norm" in given:
        given["norm"] = operation.tensor("norm", operation.random(2, channels_in))
    picture = (rows * upsample, columns * upsample, channels_out)
    kernels.conv2d(
        operation.stage,
        operation.tensor("picture", operation.random(rows, columns, channels_in)),
        operation.matrix("weight", channels_out, kernel, kernel, channels_in),
        output=operation.tensor("out", operation.random(*picture), "state"),
        rows=rows,
        columns=columns,
        channels_in=channels_in,
        channels_out=channels_out,
        tile=tiles.picture_tile(channels_out),
        **given,
    )
    check(device, operation, "out")


@pytest.mark.parametrize("picture_type", [np.float32, np.float16])
@pytest.mark.parametrize("output_type", [np.float32, np.float16])
def test_conv2d_of_pictures_in_f16(device: Device, picture_type: type, output_type: type) -> None:
    operation = Operation("f16")
    values = operation.random(9, 8, 12)
    values[0, 0, 0] = 7e4 if picture_type is np.float32 else 6e4
    before = operation.random(9, 8, 8).astype(output_type)
    kernels.conv2d(
        operation.stage,
        operation.tensor("picture", values.astype(picture_type)),
        operation.matrix("weight", 8, 3, 3, 12, value=np.eye(8, 108, dtype=np.float32)),
        operation.weight("bias", operation.random(8)),
        operation.tensor("out", before, "state"),
        rows=9,
        columns=8,
        channels_in=12,
        channels_out=8,
        add=True,
        tile=tiles.picture_tile(8),
    )
    [(ours, twins)] = operation.both(device, "out")
    assert ours.dtype == output_type
    # A sum near the middle of two f16 may be rounded to either
    assert np.allclose(ours, twins, rtol=1e-3 if output_type is np.float16 else 1e-6, atol=1e-4)
    assert np.abs(twins).max() > 5e4  # what f16 cannot hold is held as near as it can be
    if (picture_type, output_type) == (np.float32, np.float16):
        assert ours.max() == 65504


@pytest.mark.parametrize(
    ("sizes", "kernel", "after"),
    [
        ((1, 1, 4), 3, {}),
        ((5, 7, 20), 5, {}),
        ((9, 3, 72), 3, {"bias": True, "gated": True}),
        ((2, 11, 12), 1, {"bias": True}),
    ],
    ids=lambda value: "+".join(value) or "plain" if isinstance(value, dict) else None,
)
def test_depthwise_conv2d(
    device: Device, sizes: tuple[int, int, int], kernel: int, after: dict[str, bool]
) -> None:
    rows, columns, channels = sizes
    operation = Operation()
    gated = after.get("gated", False)
    dcae_kernels.depthwise_conv2d(
        operation.stage,
        operation.tensor("picture", operation.random(*sizes)),
        operation.weight("taps", operation.random(kernel, kernel, channels)),
        operation.output("out", rows, columns, channels // 2 if gated else channels),
        rows=rows,
        columns=columns,
        channels=channels,
        kernel=kernel,
        bias=operation.weight("bias", operation.random(channels)) if "bias" in after else None,
        gated=gated,
    )
    check(device, operation, "out")


@pytest.mark.parametrize("matrix_type", DTYPES)
@pytest.mark.parametrize("sizes", [(1, 4, 4), (7, 36, 12), (130, 96, 32)])
def test_grouped_matmul(device: Device, sizes: tuple[int, int, int], matrix_type: DType) -> None:
    rows, columns, width = sizes
    operation = Operation(matrix_type)
    dcae_kernels.grouped_matmul(
        operation.stage,
        operation.tensor("left", operation.random(rows, columns)),
        operation.matrix("weight", columns, width),
        operation.output("out", rows, columns),
        rows=rows,
        columns=columns,
        width=width,
    )
    check(device, operation, "out")


@pytest.mark.parametrize(
    ("channels_in", "channels_out", "factor", "repeats"),
    [(16, 4, 2, 1), (24, 12, 2, 2), (3, 12, 1, 4), (12, 12, 2, 4)],
)
def test_pixel_shuffle(
    device: Device, channels_in: int, channels_out: int, factor: int, repeats: int
) -> None:
    rows, columns = 5, 7
    operation = Operation()
    picture = operation.random(rows, columns, channels_in)
    dcae_kernels.pixel_shuffle(
        operation.stage,
        operation.tensor("picture", picture),
        operation.output("out", rows * factor, columns * factor, channels_out),
        rows=rows,
        columns=columns,
        channels_in=channels_in,
        channels_out=channels_out,
        factor=factor,
        repeats=repeats,
    )
    repeated = torch.from_numpy(picture).movedim(-1, 0).repeat_interleave(repeats, dim=0)
    expected = torch.nn.functional.pixel_shuffle(repeated, factor).movedim(0, -1).numpy()
    for result in operation.both(device, "out")[0]:
        assert np.array_equal(result, expected)


@pytest.mark.parametrize(
    ("pixels", "heads", "head_dim"), [(1, 1, 4), (65, 3, 16), (70, 2, 32), (33, 1, 64)]
)
def test_linear_attention(device: Device, pixels: int, heads: int, head_dim: int) -> None:
    operation = Operation()
    width = heads * head_dim
    qkv = operation.random(pixels, heads, 3, head_dim)
    qkv[0, 0, 0] = -1  # a query that sees nothing gives zeros
    dcae_kernels.linear_attention(
        operation.stage,
        operation.tensor("qkv", qkv),
        operation.tensor("out", operation.random(pixels, 2 * width + 4), "state"),
        pixels=pixels,
        heads=heads,
        head_dim=head_dim,
        eps=1e-15,
        row_width=2 * width + 4,
        row_offset=width + 4,
    )
    [(ours, twins)] = operation.both(device, "out")
    assert distance(ours, twins) < CLOSE
    assert not ours[0, width + 4 : width + 4 + head_dim].any()
    assert np.array_equal(ours[:, : width + 4], operation.inputs["out"][:, : width + 4])


def test_linear_attention_over_many_chunks(device: Device) -> None:
    operation = Operation()
    dcae_kernels.linear_attention(
        operation.stage,
        operation.tensor("qkv", operation.random(5000, 1, 3, 8)),
        operation.output("out", 5000, 8),
        pixels=5000,
        heads=1,
        head_dim=8,
        eps=1e-15,
        row_width=8,
        row_offset=0,
    )
    check(device, operation, "out")


@pytest.mark.parametrize("lengths", [(0, 0), (40, 3), (0, 33), (1, 32)])
@pytest.mark.parametrize("length", [1, 63, 70, 130])
def test_attention_over_texts_of_two_lengths(
    device: Device, length: int, lengths: tuple[int, int]
) -> None:
    heads, head_dim, text = 3, 32, max(lengths)
    operation = Operation()
    texts = operation.random(2, text, 2 * heads * head_dim)
    for entry, count in zip(texts, lengths, strict=True):
        entry[count:] = np.nan  # what lies beyond a text must not matter
    operation.tensor("text_lengths", np.array(lengths, np.uint32))
    kernels.attention(
        operation.stage,
        operation.tensor("qkv", operation.random(2, length, 3 * heads * head_dim)),
        operation.output("out", 2, length, heads * head_dim),
        batch=2,
        length=length,
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        scale=head_dim**-0.5,
        text_kv=operation.tensor("text_kv", texts),
        text=text,
    )
    check(device, operation, "out")


@pytest.mark.parametrize("length", [37, 133])
@pytest.mark.parametrize(
    ("head_dim", "heads", "kv_heads", "soft_cap"),
    [(16, 4, 2, 50.0), (64, 2, 2, 0.0), (128, 1, 1, 0.0), (256, 4, 2, 5.0), (512, 1, 1, 0.0)],
)
def test_attention_of_heads_of_any_width(
    device: Device, head_dim: int, heads: int, kv_heads: int, soft_cap: float, length: int
) -> None:
    """133: several tiles of queries and of keys in each of the shaders, the last ones not full."""
    operation = Operation()
    kernels.attention(
        operation.stage,
        operation.tensor("qkv", 2 * operation.random(length, heads + 2 * kv_heads, head_dim)),
        operation.output("out", length, heads, head_dim),
        batch=1,
        length=length,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        scale=head_dim**-0.5,
        soft_cap=soft_cap,
    )
    check(device, operation, "out")


def test_attention_to_scores_that_exp_cannot_hold(device: Device) -> None:
    operation = Operation()
    kernels.attention(
        operation.stage,
        operation.tensor("qkv", 60 * operation.random(40, 3, 16)),
        operation.output("out", 40, 16),
        batch=1,
        length=40,
        heads=1,
        kv_heads=1,
        head_dim=16,
        scale=0.25,
    )
    check(device, operation, "out", tolerance=2e-5)


@pytest.mark.parametrize(("rows", "width"), [(1, 4), (5, 132), (3, 1792)])
def test_layer_norm_modulate(device: Device, rows: int, width: int) -> None:
    operation = Operation()
    operation.tensor("step", np.array([1], np.uint32))
    kernels.layer_norm_modulate(
        operation.stage,
        operation.tensor("rows", operation.random(rows, width) + 100),
        operation.tensor("table", operation.random(2, 3 * width)),
        operation.output("out", rows, width),
        rows=rows,
        width=width,
        stride=3 * width,
        shift=2 * width,
        scale=width,
        eps=1e-6,
    )
    check(device, operation, "out", tolerance=2e-5)  # 100 of mean cost two digits


@pytest.mark.parametrize(
    "after",
    [{}, {"add": True}, {"bias": True, "add": True}, {"bias": True, "relu": True}],
    ids=lambda after: "+".join(after) or "plain",
)
@pytest.mark.parametrize(("rows", "width"), [(1, 4), (5, 132), (3, 2304)])
def test_rms_norm(device: Device, rows: int, width: int, after: dict[str, bool]) -> None:
    operation = Operation()
    kernels.rms_norm(
        operation.stage,
        operation.tensor("rows", operation.random(rows, width)),
        operation.weight("gain", operation.random(width)),
        operation.tensor("out", operation.random(rows, width), "state"),
        rows=rows,
        width=width,
        eps=1e-6,
        plus=1,
        bias=operation.weight("bias", operation.random(width)) if "bias" in after else None,
        relu="relu" in after,
        add="add" in after,
    )
    check(device, operation, "out")


@pytest.mark.parametrize(("rows", "head_dim"), [(1, 32), (7, 32), (5, 64), (3, 128)])
def test_head_norm(device: Device, rows: int, head_dim: int) -> None:
    operation = Operation()
    kernels.head_norm(
        operation.stage,
        operation.tensor("values", operation.random(rows, 6, head_dim), "state"),
        operation.weight("gain", operation.random(head_dim)),
        rows=rows,
        heads=3,
        row_heads=6,
        head_dim=head_dim,
        eps=1e-6,
    )
    check(device, operation, "values")


@pytest.mark.parametrize(
    ("grid", "axes"), [((3, 5), (32, 32)), ((1, 1), (32, 32)), ((4, 3), (16, 16))]
)
def test_head_norm_rope(device: Device, grid: tuple[int, int], axes: tuple[int, int]) -> None:
    heads, head_dim, length = 3, sum(axes), grid[0] * grid[1]
    operation = Operation()
    kernels.head_norm_rope(
        operation.stage,
        operation.tensor("qkv", operation.random(2 * length, 3, heads, head_dim), "state"),
        operation.weight("gain", operation.random(2, head_dim)),
        operation.weight("row_turns", turns(7, axes[0], 10000)),
        operation.weight("column_turns", turns(7, axes[1], 10000)),
        rows=2 * length,
        heads=heads,
        length=length,
        columns=grid[1],
        head_dim=head_dim,
        axis=axes[0],
        eps=1e-6,
    )
    check(device, operation, "qkv")


@pytest.mark.parametrize(("rows", "head_dim"), [(1, 16), (9, 16), (5, 256)])
def test_rope_half(device: Device, rows: int, head_dim: int) -> None:
    operation = Operation()
    kernels.rope_half(
        operation.stage,
        operation.tensor("values", operation.random(rows, 5, head_dim), "state"),
        operation.weight("turns", turns(11, head_dim, 10000)),
        rows=rows,
        heads=3,
        row_heads=5,
        head_dim=head_dim,
    )
    check(device, operation, "values")


@pytest.mark.parametrize("matrix_type", ["f32", "f16"])
def test_embed(device: Device, matrix_type: DType) -> None:
    operation = Operation(matrix_type)
    stored = np.float16 if matrix_type == "f16" else np.float32
    kernels.embed(
        operation.stage,
        operation.tensor("rows", operation.random(3, 92).astype(stored)),
        operation.output("out", 3, 92),
        count4=69,
        scale=48.0,
    )
    check(device, operation, "out")


@pytest.mark.parametrize(
    ("batch", "channels", "rows", "columns", "patch"), [(2, 5, 6, 10, 2), (1, 32, 3, 5, 1)]
)
def test_patchify_and_unpatchify(
    device: Device, batch: int, channels: int, rows: int, columns: int, patch: int
) -> None:
    operation = Operation()
    grid: dict[str, Any] = {
        "channels": channels,
        "rows": rows,
        "columns": columns,
        "batch": batch,
        "patch": patch,
    }
    latent = operation.random(channels, rows, columns)
    count = rows * columns // patch**2
    tokens = operation.output("tokens", batch, count, channels * patch**2)
    kernels.patchify(operation.stage, operation.tensor("latent", latent), tokens, **grid)
    again = operation.output("again", batch, channels, rows, columns)
    kernels.unpatchify(operation.stage, tokens, again, **grid)
    (ours, twins), (back, _) = operation.both(device, "tokens", "again")
    assert np.array_equal(ours, twins)
    assert all(np.array_equal(entry, latent) for entry in back)


@pytest.mark.parametrize("batch", [1, 2])
def test_euler(device: Device, batch: int) -> None:
    operation = Operation()
    operation.tensor("latent", operation.random(301), "state")
    operation.tensor("velocity", operation.random(batch, 301))
    operation.tensor("strides", operation.random(3))
    operation.tensor("guidance", np.array([5], np.float32))
    operation.tensor("step", np.array([2], np.uint32))
    kernels.euler(operation.stage, count=301, batch=batch)
    check(device, operation, "latent")


def test_unscale(device: Device) -> None:
    operation = Operation()
    kernels.unscale(
        operation.stage,
        operation.tensor("latent", operation.random(5, 77)),
        operation.output("out", 77, 5),
        channels=5,
        pixels=77,
        scaling=0.3611,
        shift=0.1159,
    )
    check(device, operation, "out")


@pytest.mark.parametrize("stored", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("pixels", "channels", "groups"), [(1, 4, 2), (35, 16, 8), (33, 160, 32), (40000, 8, 2)]
)
def test_group_norm(device: Device, pixels: int, channels: int, groups: int, stored: type) -> None:
    operation = Operation()
    norm = norm_kernels.group_norm(
        operation.stage,
        operation.tensor("picture", (operation.random(pixels, channels) + 50).astype(stored)),
        operation.weight("gain", operation.random(channels)),
        operation.weight("bias", operation.random(channels)),
        pixels=pixels,
        channels=channels,
        groups=groups,
        eps=1e-6,
    )
    check(device, operation, norm, tolerance=2e-5)


def test_rgba(device: Device) -> None:
    operation = Operation()
    rgb = operation.random(301, 4)
    rgb[:4, 0] = [-7, 7, -1, 1]
    kernels.rgba(
        operation.stage,
        operation.tensor("rgb", rgb),
        operation.output("out", 301, type="u32"),
        pixels=301,
    )
    [(ours, twins)] = operation.both(device, "out")
    off = np.abs(ours.view(np.uint8).astype(int) - twins.view(np.uint8).astype(int))
    assert off.max() <= 1
    assert (off > 0).mean() < 0.01  # at halves only
    assert (ours >> 24 == 255).all()


def test_shaders_are_found_in_one_folder_only(tmp_path: Path) -> None:
    from diffusion.plan.expressions import PlanError
    from diffusion.plan.shaders import read_shader

    (tmp_path / "secret.wgsl").write_text("")
    (tmp_path / "wgsl").mkdir()
    for name in ("../secret", "shared/../../secret", "/etc/hosts", "none", "a/b", ""):
        with pytest.raises(PlanError):
            read_shader(tmp_path / "wgsl", name)
