"""The engine on a real WebGPU device in a real Chromium, and torch to compare it with.

A page holds objects between calls: what a test keeps as `kept.NAME` is there in the next one.
"""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page

from diffusion.backends.torch_backend import TorchBackend
from diffusion.model_folder import ModelFolder, read_model_folder
from diffusion.packaging.manifest import dtypes_of
from diffusion.random_model import DC_AE_SHAPE, Shape, write_random_model
from genqueue.packages import pack
from tests.browser import listen_for_errors
from tests.js.engine.package_host import PackageHost

_ODD = Shape(hidden=192, heads=3, axes=(32, 32), depth=3, text_kv_heads=2)
SHAPES = {
    "odd": _ODD,
    # patch 1, 32 times smaller, every kind of block that its decoder has
    "deep": replace(_ODD, text_layers=4, vae="dc-ae", vae_channels=DC_AE_SHAPE.vae_channels),
}

CALL = """async ([modules, args]) => {
  const base64 = ({ buffer, byteOffset, byteLength }) => {
    let text = '';
    for (let at = 0; at < byteLength; at += 2 ** 15) {
      const size = Math.min(2 ** 15, byteLength - at);
      text += String.fromCharCode(...new Uint8Array(buffer, byteOffset + at, size));
    }
    return btoa(text);
  };
  const floats = (text) =>
    new Float32Array(Uint8Array.from(atob(text), (byte) => byte.charCodeAt(0)).buffer);
  const kept = globalThis.kept ??= {};
  const m = {};
  for (const name of modules) Object.assign(m, await import(`/static/js/engine/${name}.js`));
  const result = await (async (...args) => { BODY })(...JSON.parse(args));
  return JSON.stringify(result ?? null);
}"""

Array = np.ndarray[Any, Any]
Call = Callable[..., Any]


class Packages:
    """Model folders, their packages and torch over them, each made when it is first wanted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.folder = cache(self._folder)
        self.torch = cache(lambda model: TorchBackend(self.folder(model)))
        self.package = cache(self._package)

    def _folder(self, model: str) -> ModelFolder:
        path = self._path / model
        write_random_model(path, SHAPES[model], dtype=torch.float32)
        channels = read_model_folder(path).latent_channels
        colours = np.random.default_rng(4).normal(0, 0.1, (channels, 3)).tolist()
        (path / "preview.json").write_text(json.dumps({"matrix": colours, "bias": [0.5] * 3}))
        return read_model_folder(path)

    def _package(self, name: str) -> Path:
        """Such as "tiny.f16"."""
        model, variant = name.split(".")
        out = self._path / name
        pack(self.folder(model), out, dtypes_of(variant), lambda what, done, total: None)
        return out


@pytest.fixture(scope="session")
def packages() -> Iterator[Packages]:
    with TemporaryDirectory() as path:
        yield Packages(Path(path))


@pytest.fixture(scope="module")
def host(packages: Packages) -> Iterator[PackageHost]:
    """Every package under its name, packed when the browser asks for its manifest."""

    class Named(dict[str, Path]):
        def get(self, name: str, default: Any = None) -> Any:
            return packages.package(name) if "." in name else default

    with PackageHost({}) as host:
        host.packages = Named()
        yield host


@pytest.fixture(scope="module")
def gpu_page(webgpu_chromium: Browser, host: PackageHost) -> Iterator[Page]:
    """Fails when a script of a module's tests had an error or broke the policy."""
    errors: list[str] = []
    page = webgpu_chromium.new_page()
    page.set_default_timeout(120_000)
    listen_for_errors(page, errors)
    page.goto(host.url)
    yield page
    page.close()
    assert errors == []


@pytest.fixture(scope="module")
def gpu(gpu_page: Page) -> Call:
    """gpu("engine", body, *args): what a function body with the modules' exports as `m` returns.
    Several modules are named with a space between; arrays in `args` become what `floats` reads."""

    def call(modules: str, body: str, *args: object) -> Any:
        sent = json.dumps(args, default=encoded)
        answer = gpu_page.evaluate(CALL.replace("BODY", body), [modules.split(), sent])
        return json.loads(answer)

    return call


def encoded(values: Array) -> str:
    return base64.b64encode(np.ascontiguousarray(values, np.float32).tobytes()).decode()


def decoded(text: str, *shape: int, dtype: str = "<f4") -> Array:
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


def distance(ours: Array, theirs: Array) -> float:
    """Relative L2; NaN, which no bound accepts, where anything was left unwritten."""
    assert ours.shape == theirs.shape
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
