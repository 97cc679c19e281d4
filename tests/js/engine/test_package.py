"""Packages in a real browser, from a real host with faults: all that is read has its hash."""

import base64
import hashlib
import json
import subprocess

import numpy as np
import pytest
from playwright._impl._driver import compute_driver_executable
from playwright.sync_api import Page

from diffusion.packaging.package import Package
from diffusion.packaging.storage import as_matrix, decode, layout_of
from tests.js.engine.package_host import ROOT, ROWS_A_SHARD, SHARD, Fault, noise_package
from tests.js.engine.packages import (
    EMBEDDING,
    MATRIX,
    TOKENIZER,
    call,
    host,
    kl_folder,
    nbytes,
    new_page,
    packages,
    page,
    shards_of,
    stored_bytes,
)

__all__ = ["call", "host", "kl_folder", "new_page", "packages", "page"]


@pytest.fixture(scope="session")
def five_shards(packages):
    return noise_package(packages["f16"].path, 5)


# Reading -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("address", ["f16", "f16/", "/f16/manifest.json", "./f16/?x=1#y"])
def test_a_package_is_opened_by_its_folder_or_its_manifest(call, packages, address):
    body = "const r = await m.openPackage(args[0]); return [r.packageId, r.manifest.modelId];"
    found = call(body, address)
    package = packages["f16"]
    assert found == [package.package_id, package.manifest.model_id]


def test_weights_come_in_pieces_in_order(call, packages):
    package = packages["f32"]
    body = """
    const reader = await m.openPackage('f32');
    const pieces = [];
    for await (const { offset, bytes } of reader.pieces(args[0])) {
      pieces.push([offset, bytes.length, base64(bytes)]);
    }
    return pieces;
    """
    pieces = call(body, MATRIX)
    stored = package.manifest.tensors[MATRIX].pieces
    assert len(stored) > 1
    assert [length for _, length, _ in pieces] == [piece.nbytes for piece in stored]
    assert [offset for offset, _, _ in pieces] == [
        sum(piece.nbytes for piece in stored[:n]) for n in range(len(stored))
    ]
    joined = b"".join(base64.b64decode(text) for _, _, text in pieces)
    assert joined == stored_bytes(package, MATRIX)


def test_every_weight_and_file_is_what_was_packed(call, packages):
    package = packages["int4-f16-f16"]
    body = """
    const reader = await m.openPackage('int4-f16-f16');
    const hex = async (bytes) => [...new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))]
      .map((byte) => byte.toString(16).padStart(2, '0')).join('');
    const found = {};
    const { files, tensors } = reader.manifest;
    for (const name of tensors.keys()) found[name] = await hex(await joined(reader, name));
    for (const name of files.keys()) found[name] = await hex(await reader.file(name));
    return found;
    """
    expected = {name: stored_bytes(package, name) for name in package.manifest.tensors}
    expected |= {name: package.file(name) for name in package.manifest.files}
    assert call(body) == {name: hashlib.sha256(data).hexdigest() for name, data in expected.items()}


@pytest.mark.parametrize("variant", ["f32", "f16", "int8", "int4"])
def test_rows_are_stored_as_a_weight_of_only_these_rows(call, packages, variant):
    package = packages[variant]
    tensor = package.manifest.tensors[EMBEDDING]
    rows, columns = as_matrix(tensor.shape)
    numbers = [rows - 1, 0, 7, 7, 100, 200, 201]
    body = "return base64(await (await m.openPackage(args[0])).rows(args[1], args[2]));"
    data = base64.b64decode(call(body, variant, EMBEDDING, numbers))
    assert len(data) == layout_of(tensor.dtype, (len(numbers), columns)).nbytes
    picked = decode(data, tensor.dtype, (len(numbers), columns))
    assert np.array_equal(picked, package.tensor(EMBEDDING)[numbers])


def test_rows_load_only_the_shards_that_they_lie_in(call, host, five_shards):
    host.packages["large"] = five_shards
    shards = [f"{s['sha256']}.bin" for s in json.loads(five_shards("manifest.json"))["shards"]]
    body = """
    const reader = await m.openPackage('large', { store: null, confirmDownload: () => true });
    await reader.prepare(args[0]);
    return (await reader.rows('text_encoder/table', args[1])).length;
    """
    last = 5 * ROWS_A_SHARD - 1
    assert call(body, [], [0, last]) == 2 * SHARD // ROWS_A_SHARD
    assert sorted(host.names()) == sorted([shards[0], shards[4]])
    host.asked.clear()
    call(body, ["text_encoder/table"], [last, 0])  # prepared: the first three are fetched ahead
    assert shards[3] not in host.names()
    host.asked.clear()
    assert call(body, [], []) == 0
    assert host.names() == []


def test_what_is_not_there_is_an_error_of_the_caller(call):
    body = """
    const reader = await m.openPackage('f16');
    return Promise.all([
      reader.file('x'), reader.pieces('transformer/x').next(), reader.rows('x', [0]),
      reader.rows(args[0], [448]), reader.rows(args[0], [-1]), reader.rows(args[0], [0.5]),
      reader.prepare(['constructor']),
    ].map(failed));
    """
    assert [name for name, _, _ in call(body, EMBEDDING)] == ["RangeError"] * 7


def test_it_works_in_a_worker(page, packages):
    body = """() => new Promise((resolve, reject) => {
      const worker = new Worker('/static/worker-of-a-test.js', { type: 'module' });
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = ({ message }) => reject(new Error(message));
    })"""
    script = """
    const { openPackage } = await import('/static/js/engine/package.js');
    const reader = await openPackage('/f16');
    const file = await reader.file('tokenizer/tokenizer.json');
    await reader.written();
    self.postMessage([file.length, reader.bytesMissing(['tokenizer/tokenizer.json'])]);
    """
    page.route("**/worker-of-a-test.js", lambda route: route.fulfill(
        body=script, content_type="text/javascript"))  # fmt: skip
    assert page.evaluate(body) == [len(packages["f16"].file(TOKENIZER)), 0]


# Faults ------------------------------------------------------------------------------------------
READ = "return read(await m.openPackage(args[0], { onProgress }), args[1]);"


def test_a_damaged_shard_is_fetched_again(call, host, packages):
    package = packages["f32"]
    first, *_ = shards_of(package, MATRIX)
    host.faults[first] = [Fault(damaged=True), Fault(longer=100)]
    assert base64.b64decode(call(READ, "f32", MATRIX)) == stored_bytes(package, MATRIX)
    assert host.names().count(first) == 2


def test_a_shard_that_stays_damaged_is_never_used(call, host, packages):
    first, second, *_ = shards_of(packages["f32"], MATRIX)
    host.faults[second] = [Fault(damaged=True)] * 6  # fetched ahead, and when it is asked for
    body = """
    const reader = await m.openPackage('f32');
    const pieces = [];
    const reading = (async () => {
      for await (const { offset } of reader.pieces(args[0])) pieces.push(offset);
    })();
    const error = await failed(reading);
    await reader.written();
    return [error, pieces.length, reader.bytesMissing([args[0]])];
    """
    error, pieces, missing = call(body, MATRIX)
    assert error[:2] == ["PackageError", "damaged"]
    assert "127.0.0.1" in error[2]
    assert pieces == 1
    assert missing == nbytes(packages["f32"], *shards_of(packages["f32"], MATRIX)[1:])
    assert host.names().count(first) == 1
    assert host.names().count(second) in (3, 6)
    host.faults.clear()
    assert call(READ, "f32", MATRIX)


def test_a_connection_that_breaks_off_is_resumed_where_it_broke(call, host, packages):
    package = packages["f32"]
    first, *_ = shards_of(package, MATRIX)
    host.faults[first] = [Fault(cut=30_000), Fault(cut=0), Fault(cut=2_000)]
    assert base64.b64decode(call(READ, "f32", MATRIX)) == stored_bytes(package, MATRIX)
    ranges = [asked.range for asked in host.asked if asked.name == first]
    assert ranges[:2] == [None, "bytes=30000-"]
    assert ranges[2] in ("bytes=30000-", None)


def test_a_host_that_ignores_ranges_sends_the_whole_shard_again(call, host, packages):
    package = packages["f32"]
    first, *_ = shards_of(package, MATRIX)
    host.ignores_ranges = True
    host.faults[first] = [Fault(cut=30_000)]
    assert base64.b64decode(call(READ, "f32", MATRIX)) == stored_bytes(package, MATRIX)
    assert [asked.range for asked in host.asked if asked.name == first] == [None, "bytes=30000-"]


def test_a_host_that_breaks_off_again_and_again_is_given_up(call, host, packages):
    first, *_ = shards_of(packages["f32"], MATRIX)
    host.ignores_ranges = True
    host.faults[first] = [Fault(cut=1_000)] * 50
    body = "return failed(read(await m.openPackage('f32'), args[0]));"
    name, code, message = call(body, MATRIX)
    assert (name, code) == ("PackageError", "unreachable")
    assert "Try again later." in message
    assert host.names().count(first) == 5


def test_a_host_that_goes_silent_is_asked_for_the_rest(call, page, host, packages):
    package = packages["f32"]
    first, *_ = shards_of(package, MATRIX)
    host.faults[first] = [Fault(cut=30_000, hangs=True)]
    host.faults["manifest.json"] = [Fault(cut=100, hangs=True)]
    page.clock.install()
    body = """
    globalThis.loading = (async () => read(await m.openPackage('f32', { store: null }), args[0]))();
    globalThis.loading.finally(() => { globalThis.loaded = true; });
    """
    call(body, MATRIX)
    while not page.evaluate("globalThis.loaded === true"):
        page.clock.fast_forward(10_000)
        page.wait_for_timeout(20)
    assert base64.b64decode(call("return globalThis.loading;")) == stored_bytes(package, MATRIX)
    assert [asked.range for asked in host.asked if asked.name == first] == [None, "bytes=30000-"]
    assert host.names("manifest.json") == ["manifest.json"] * 2


def test_a_busy_host_is_asked_again_when_it_says(call, host, packages):
    first, *_ = shards_of(packages["f32"], MATRIX)
    host.faults[first] = [Fault(status=503, retry_after=0), Fault(status=429, retry_after=1)]
    body = "const start = performance.now(); await read(await m.openPackage('f32'), args[0]);" \
           "return performance.now() - start;"  # fmt: skip
    assert call(body, MATRIX) >= 1000
    assert host.names().count(first) == 3


def test_a_shard_that_the_host_lacks_is_not_asked_for_again(call, host, packages):
    first, *_ = shards_of(packages["f32"], MATRIX)
    host.faults[first] = [Fault(status=404)]
    body = "return failed(read(await m.openPackage('f32'), args[0]));"
    name, code, message = call(body, MATRIX)
    assert (name, code) == ("PackageError", "missing")
    assert first[:8] in message
    assert host.names().count(first) == 1


def test_no_host_and_no_manifest_are_told_apart(call, page, host):
    body = "return failed(m.openPackage(...args));"
    assert call(body, "nothing/f16")[1] == "missing"
    host.packages["broken"] = lambda name: b"{}"
    assert call(body, "broken")[:2] == ["ManifestError", "manifest"]
    assert call(body, "f16", {"expect": "0" * 64})[1] == "other"
    page.route("**/f16/manifest.json", lambda route: route.abort())
    assert call(body, "f16")[1] == "unreachable"


def test_the_manifest_of_an_endless_host_is_not_read_to_its_end(call, host):
    host.packages["endless"] = lambda name: bytes(17 * 2**20)
    assert call("return failed(m.openPackage('endless'));")[1] == "manifest"


def test_reading_can_be_given_up(call, host, packages):
    first, *_ = shards_of(packages["f32"], MATRIX)
    host.faults[first] = [Fault(cut=100, hangs=True), Fault(cut=100, hangs=True)]
    body = """
    const controller = new AbortController();
    const { signal } = controller;
    const enough = () => controller.abort(new Error('enough'));
    const one = await m.openPackage('f32', { signal, onProgress: enough });
    const given = await failed(read(one, args[0]));
    const two = await m.openPackage('f32', { onProgress: () => two.close() });
    const closed = await failed(read(two, args[0]));
    return [given, closed, await failed(m.openPackage('f32', { signal }))];
    """
    assert [(name, message) for name, _, message in call(body, MATRIX)] == [
        ("Error", "enough"), ("AbortError", "the package was closed"), ("Error", "enough"),
    ]  # fmt: skip


def test_one_call_can_be_given_up_and_the_shard_still_arrives(call, host, packages):
    package = packages["f32"]
    first, *_ = shards_of(package, MATRIX)
    host.seconds_an_answer = 0.2
    body = """
    const reader = await m.openPackage('f32');
    const controller = new AbortController();
    const { signal } = controller;
    const calls = [
      reader.file(args[1], { signal }), reader.rows(args[0], [0], { signal }),
      reader.pieces(args[0], { signal }).next(),
    ].map(failed);
    controller.abort(new Error('enough'));
    const given = await Promise.all([...calls, failed(reader.file(args[1], { signal }))]);
    return [given.map(([, , message]) => message), await read(reader, args[0])];
    """
    given, data = call(body, MATRIX, TOKENIZER)
    assert given == ["enough"] * 4
    assert base64.b64decode(data) == stored_bytes(package, MATRIX)
    assert host.names().count(first) == 1


# Other hosts -----------------------------------------------------------------------------------
def test_another_host_may_serve_packages(call, host, packages):
    package = packages["f32"]
    first, *_ = shards_of(package, MATRIX)
    host.faults[first] = [Fault(cut=30_000)]
    data = call(READ, f"{host.other_url}f32", MATRIX)
    assert base64.b64decode(data) == stored_bytes(package, MATRIX)


def test_another_host_that_wants_no_ranges_does_too(call, host, packages):
    host.ignores_ranges = host.refuses_preflights = True
    test_another_host_may_serve_packages(call, host, packages)


def test_another_host_that_does_not_allow_this_page_is_an_error(call, host):
    host.allows_others = False
    assert (
        call("return failed(m.openPackage(args[0]));", f"{host.other_url}f32")[1] == "unreachable"
    )


# Agreement ---------------------------------------------------------------------------------------
def test_a_large_download_is_asked_about_once_and_before(call, host, five_shards):
    host.packages["large"] = five_shards
    body = """
    const asked = [];
    const confirmDownload = async (question) => { asked.push(question); return true; };
    const reader = await m.openPackage('large', { confirmDownload, store: null });
    for (const n of [0, 1]) await joined(reader, `transformer/noise.${n}`);
    const before = asked.length;
    await Promise.all([2, 3, 4].map((n) => joined(reader, `transformer/noise.${n}`)));
    return [before, asked];
    """
    before, asked = call(body)
    assert before == 0  # 34 MB
    assert asked == [{"bytes": 3 * SHARD, "title": "tiny-kl", "saveData": False, "fits": False}]
    assert len(host.names()) == 5


def test_the_question_is_about_what_will_be_read(call, host, five_shards):
    host.packages["large"] = five_shards
    body = """
    const asked = [];
    const confirmDownload = ({ bytes, fits }) => { asked.push([bytes, fits]); return true; };
    const reader = await m.openPackage('large', { confirmDownload, onProgress });
    const names = [0, 1, 2, 3].map((n) => `transformer/noise.${n}`);
    await reader.prepare(names.slice(0, 1));
    await reader.prepare(names);
    for (const name of names) await joined(reader, name);
    await reader.written();
    return [asked, events.at(-1), reader.bytesMissing(), reader.bytesMissing(names)];
    """
    asked, progress, missing, of_these = call(body)
    assert asked == [[3 * SHARD, True]]
    assert progress == {"kind": "download", "done": 4 * SHARD, "total": 4 * SHARD}
    assert (missing, of_these) == (SHARD, 0)
    assert len(host.names()) == 4


def test_who_closes_a_package_need_not_answer_its_question(call, host, five_shards):
    host.packages["large"] = five_shards
    body = """
    const asking = Promise.withResolvers();
    const confirmDownload = () => new Promise(asking.resolve);
    const reader = await m.openPackage('large', { confirmDownload });
    const results = Promise.all([
      failed(reader.prepare(reader.manifest.tensors.keys())),
      failed(joined(reader, 'text_encoder/table')),
    ]);
    await asking.promise;
    reader.close();
    return results;
    """
    assert [name for name, _, _ in call(body)] == ["AbortError"] * 2


@pytest.mark.parametrize("confirm", ["undefined", "() => false", "async () => false"])
def test_without_agreement_nothing_large_is_fetched(call, host, five_shards, confirm):
    host.packages["large"] = five_shards
    body = f"""
    const reader = await m.openPackage('large', {{ confirmDownload: {confirm} }});
    return failed(reader.prepare(reader.manifest.tensors.keys()));
    """
    name, code, message = call(body)
    assert (name, code) == ("PackageError", "declined")
    assert "84 MB" in message
    assert host.names() == []


def test_who_saves_data_is_asked_about_every_download(call, page, host, packages):
    page.evaluate(
        "Object.defineProperty(navigator.connection, 'saveData', { get: () => true }) && 0"
    )
    body = """
    const asked = [];
    const confirmDownload = ({ bytes, saveData }) => asked.push([bytes, saveData]) < 2;
    const reader = await m.openPackage('f16', { confirmDownload });
    await reader.prepare([args[0]]);
    await joined(reader, args[0]);
    return [asked, await failed(reader.prepare(reader.manifest.tensors.keys()))];
    """
    asked, (_, code, _) = call(body, EMBEDDING)
    assert asked[0] == [nbytes(packages["f16"], *shards_of(packages["f16"], EMBEDDING)), True]
    assert len(asked) == 2
    assert code == "declined"
    assert host.names() == shards_of(packages["f16"], EMBEDDING)


def test_sizes_are_told_by_part(call, packages):
    package = packages["f16"]
    body = """
    const reader = await m.openPackage('f16');
    await joined(reader, args[0]);
    await reader.written();
    return [reader.parts(), reader.bytesMissing()];
    """
    parts, missing = call(body, EMBEDDING)
    tensors = package.manifest.tensors
    for part in ("text_encoder", "transformer", "vae"):
        names = [name for name in tensors if name.startswith(f"{part}/")]
        assert parts[part]["bytes"] == nbytes(package, *shards_of(package, *names))
    stored = nbytes(package, *shards_of(package, EMBEDDING))
    assert parts["text_encoder"]["missing"] == parts["text_encoder"]["bytes"] - stored
    assert parts["vae"]["missing"] == parts["vae"]["bytes"]
    assert sum(part["bytes"] for part in parts.values()) == package.manifest.nbytes
    assert missing == package.manifest.nbytes - stored


# In parallel and in bounded memory -------------------------------------------------------------
def test_shards_are_fetched_ahead_and_in_parallel(call, host, packages):
    package = packages["f32"]
    names = [name for name in package.manifest.tensors if name.startswith("transformer/")]
    assert len(shards_of(package, *names)) >= 6
    host.seconds_an_answer = 0.05
    body = """
    const reader = await m.openPackage('f32');
    await reader.prepare(args[0]);
    for (const name of args[0]) await joined(reader, name);
    """
    call(body, names)
    assert sorted(host.names()) == sorted(shards_of(package, *names))
    assert 3 <= host.most_at_once <= 4


def test_memory_stays_bounded_whatever_the_size(call, page, host, packages):
    shards = 20  # 335 MB
    host.packages["large"] = noise_package(packages["f16"].path, shards)
    session = page.context.new_cdp_session(page)
    session.send("Runtime.enable")
    body = """
    globalThis.run = (async () => {
      const { openPackage } = await import('/static/js/engine/package.js');
      const reader = await openPackage('large', { confirmDownload: () => true });
      const names = [...reader.manifest.tensors.keys()].slice(0, -1);
      await reader.prepare(names);
      let bytes = 0;
      for (const name of names) {
        for await (const piece of reader.pieces(name)) bytes += piece.bytes.length;
      }
      await reader.written();
      globalThis.result = [bytes, reader.bytesMissing()];
    })().catch((error) => { globalThis.result = String(error); });
    """
    page.evaluate(f"() => {{ {body} }}")
    most = 0
    while (result := page.evaluate("globalThis.result ?? null")) is None:
        usage = session.send("Runtime.getHeapUsage")
        most = max(most, usage["usedSize"] + usage["backingStorageSize"])
        page.wait_for_timeout(20)
    assert result == [shards * SHARD, 0]
    assert 30e6 < most < 200e6


# Outside of browsers ---------------------------------------------------------------------------
def test_it_works_in_node_where_nothing_can_be_stored(host, packages):
    package = packages["f32"]
    script = """
    const { openPackage } = await import(process.argv[1]);
    const reader = await openPackage(process.argv[2]);
    const hash = await import('node:crypto').then((c) => c.createHash('sha256'));
    for await (const { bytes } of reader.pieces(process.argv[3])) hash.update(bytes);
    await reader.written();
    console.log(JSON.stringify([hash.digest('hex'), reader.bytesMissing()]));
    """
    node, _ = compute_driver_executable()  # Playwright brings one
    module = (ROOT / "static/js/engine/package.js").as_uri()
    arguments = [node, "--input-type=module", "-e", script, module, f"{host.url}f32/", MATRIX]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    sha256 = hashlib.sha256(stored_bytes(package, MATRIX)).hexdigest()
    assert json.loads(done.stdout) == [sha256, package.manifest.nbytes]


# At the real site --------------------------------------------------------------------------------
def test_the_site_serves_a_package_that_its_pages_can_load(
    open_page, alice, kl_folder, settings, tmp_path
):
    settings.DATA_DIR = tmp_path / "data"
    settings.MODEL_ROOTS = [kl_folder.parent]
    page: Page = open_page(alice, "/stats/")
    body = """async () => {
      const { openPackage } = await import('/static/js/engine/package.js');
      const listed = async () => (await (await fetch('/api/packages')).json()).packages
        .find(({ model, variant }) => model === 'tiny-kl' && variant === 'f16');
      const { url } = await listed();
      const reader = await openPackage(url);
      const names = [...reader.manifest.tensors.keys()];
      await reader.prepare(names);
      let bytes = 0;
      for (const name of names) {
        for await (const piece of reader.pieces(name)) bytes += piece.bytes.length;
      }
      const plan = JSON.parse(new TextDecoder().decode(await reader.file(reader.manifest.plan)));
      const { package_id: packageId, parts } = await listed();
      const again = await openPackage(url, { expect: packageId });
      return [bytes, plan.format, parts, again.parts()];
    }"""
    nbytes, plan, listed, parts = page.evaluate(body)
    package = Package(tmp_path / "data/packages/tiny-kl/f16")
    assert nbytes == sum(tensor.layout.nbytes for tensor in package.manifest.tensors.values())
    assert plan == "p2pweb-plan"
    assert listed == {part: sizes["bytes"] for part, sizes in parts.items()}
