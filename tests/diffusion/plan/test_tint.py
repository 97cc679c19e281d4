"""Every shader compiles in Chromium too, whose compiler, Tint, refuses what naga lets pass.

Only the modules: SwiftShader takes minutes for the pipelines, and wgpu makes them all with the
default limits (test_kernels.py, test_parity.py).
"""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from diffusion.model_folder import read_model_folder
from diffusion.packaging.storage import DTYPES
from diffusion.plan.compiler import compile_folder
from diffusion.plan.schema import Dispatch, Plan
from diffusion.plan.shaders import module_text, read_shader
from diffusion.plan.sizes import dispatch_sizes
from diffusion.plan.variants import Choice, read_variants
from tests.browser import webgpu_chromium
from tests.diffusion.plan.conftest import WGSL
from tests.diffusion.plan.variants import variants

__all__ = ["webgpu_chromium"]

COMPILE = """async (modules) => {
    const adapter = await navigator.gpu.requestAdapter();
    const device = await adapter.requestDevice();
    const problems = [];
    await Promise.all(modules.map(async ([name, code]) => {
        const module = device.createShaderModule({code});
        const {messages} = await module.getCompilationInfo();
        for (const message of messages) {
            problems.push(`${name}:${message.lineNum} ${message.type} ${message.message}`);
        }
    }));
    return problems;
}"""


@pytest.fixture(scope="module")
def page(webgpu_chromium: Browser) -> Page:
    page = webgpu_chromium.new_page()
    # WebGPU exists in secure contexts only, and localhost is one
    page.route("http://localhost/**", lambda route: route.fulfill(body="<!doctype html>"))
    page.goto("http://localhost/")
    return page


def modules(*plans: Plan, choice: Choice | None = None) -> dict[str, str]:
    """Each distinct module of the plans by its text, with the name of its shader. choice: of
    variants, where sizes are numbers."""

    def read(name: str) -> str:
        return read_shader(WGSL, name)

    def fitted(dispatch: Dispatch) -> Dispatch:
        return choice.fitted(dispatch, dispatch_sizes(dispatch, {})) if choice else dispatch

    return {
        module_text(read, fitted(dispatch)): dispatch.shader
        for plan in plans
        for stage in plan.stages.values()
        for segment in stage.segments
        for dispatch in segment.dispatches
    }


def test_every_module_compiles_without_a_word(page: Page, kl_folder: Path, dc_folder: Path) -> None:
    folders = [read_model_folder(path) for path in (kl_folder, dc_folder)]
    plans = (compile_folder(folder, dtype).plan for folder in folders for dtype in DTYPES)
    texts = modules(*plans, variants())
    assert set(texts.values()) == {path.stem for path in Path(WGSL).glob("*.wgsl")}
    assert page.evaluate(COMPILE, [[name, text] for text, name in texts.items()]) == []


def test_what_multiplies_in_f16_compiles_too(page: Page) -> None:
    """SwiftShader has no f16, so Tint sees f32 in its place."""
    names = {"few": "64x128x16f16", "many": "128x128x16f16", "attention": "128x64x16f16"}
    texts = modules(variants(), choice=Choice(read_variants(WGSL), names))
    halves = {
        re.sub(r"\bf16\b", "f32", text): name for text, name in texts.items() if "vec4<f16>" in text
    }
    assert set(halves.values()) == {"matmul", "conv2d", "attention_tiled"}
    assert page.evaluate(COMPILE, [[name, text] for text, name in halves.items()]) == []


def test_a_barrier_that_not_all_reach_is_noticed(page: Page) -> None:
    """The test above would be empty if no message ever came."""
    code = """@group(0) @binding(0) var<storage, read_write> x: array<u32>;
    @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) {
        if (x[i] > 3) { workgroupBarrier(); }
    }"""
    problems: list[Any] = page.evaluate(COMPILE, [["bad", code]])
    assert any("uniform" in problem for problem in problems)
