"""Fixtures and words of the tests of packages in a browser."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from diffusion.packaging.package import Package
from tests.browser import listen_for_errors
from tests.diffusion.conftest import kl_folder
from tests.diffusion.packaging.conftest import packages
from tests.js.engine.conftest import CALL
from tests.js.engine.package_host import PackageHost

__all__ = ["kl_folder", "packages"]

EMBEDDING = "text_encoder/embed_tokens.weight"
MATRIX = "transformer/blocks.1.up_proj.weight"  # over three shards in f32
TOKENIZER = "tokenizer/tokenizer.json"

Call = Callable[..., Any]

# `events` is what the reader said of its progress, `read` all of a weight as base64, `failed` what
# a promise was refused with. Every reader gives itself up when the test does.
PRELUDE = """
const events = [];
const onProgress = (event) => events.push(event);
const joined = async (reader, name) => {
  const { bytes } = reader.manifest.tensors.get(name);
  const whole = new Uint8Array(bytes);
  for await (const piece of reader.pieces(name)) whole.set(piece.bytes, piece.offset);
  return whole;
};
const read = async (reader, name) => base64(await joined(reader, name));
const failed = (promise) => promise.then(
  () => null, ({ name, code, message }) => [name, code, message]);
"""


@pytest.fixture
def host(packages) -> Iterator[PackageHost]:
    with PackageHost({variant: package.path for variant, package in packages.items()}) as host:
        yield host


@pytest.fixture
def new_page(chromium: Browser, host: PackageHost) -> Iterator[Callable[[], Page]]:
    """Each page has a browser's storage of its own."""
    contexts = []
    errors: list[str] = []

    def make() -> Page:
        contexts.append(chromium.new_context())
        page = contexts[-1].new_page()
        listen_for_errors(page, errors)
        page.goto(host.url)
        return page

    yield make
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(new_page) -> Page:
    return new_page()


def call_in(page: Page, body: str, *args: object) -> Any:
    script = CALL.replace("BODY", PRELUDE + body)
    return json.loads(page.evaluate(script, ["package", json.dumps(args)]))


@pytest.fixture
def call(page: Page) -> Call:
    """call(body, *args) with the exports of package.js as `m`, and what PRELUDE defines."""
    return lambda body, *args: call_in(page, body, *args)


def stored_bytes(package: Package, name: str) -> bytes:
    return package._join(package.manifest.tensors[name].pieces)


def shards_of(package: Package, *names: str) -> list[str]:
    """File names of the shards with these weights, each once, in order."""
    numbers = dict.fromkeys(
        piece.shard for name in names for piece in package.manifest.tensors[name].pieces
    )
    return [package.manifest.shards[number].file_name for number in numbers]


def nbytes(package: Package, *file_names: str) -> int:
    sizes = {shard.file_name: shard.nbytes for shard in package.manifest.shards}
    return sum(sizes[name] for name in set(file_names))
