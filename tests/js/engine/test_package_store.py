"""What a browser keeps of models: nothing is fetched twice, nothing damaged is used, all can go."""

import base64
import json

import pytest

from tests.js.engine.package_host import Fault
from tests.js.engine.packages import (
    EMBEDDING,
    MATRIX,
    call,
    call_in,
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

STORE = "const { PackageStore } = await import('/static/js/engine/package-store.js');\n"
ALL = """
const everything = async (reader) => {
  for (const name of reader.manifest.tensors.keys()) await joined(reader, name);
  for (const name of reader.manifest.files.keys()) await reader.file(name);
  await reader.written();
};
"""
LOAD = (
    ALL
    + """
const [address, options] = args;
const reader = await m.openPackage(address, { ...options, onProgress });
await everything(reader);
return events;
"""
)
FOLDER = """
const root = await navigator.storage.getDirectory();
const folder = await (await root.getDirectoryHandle('p2pweb-models')).getDirectoryHandle('shards');
"""
LIST = STORE + "return (await PackageStore.open()).list();"


def test_after_a_reload_nothing_is_fetched_again(call, page, host, packages):
    package = packages["f32"]
    events = call(LOAD, "f32")
    assert sorted(host.names()) == sorted(shard.file_name for shard in package.manifest.shards)
    assert events[-1] == {
        "kind": "download", "done": package.manifest.nbytes, "total": package.manifest.nbytes,
    }  # fmt: skip
    page.reload()
    host.asked.clear()
    assert call(LOAD, "f32") == []
    assert [asked.name for asked in host.asked] == ["manifest.json"]
    host.asked.clear()
    call(LOAD, "f32", {"expect": package.package_id})
    assert host.asked == []
    data = call("return read(await m.openPackage('f32'), args[0]);", MATRIX)
    assert base64.b64decode(data) == stored_bytes(package, MATRIX)


def test_what_was_stored_before_an_error_stays(call, page, host, packages):
    package = packages["f32"]
    first, second, *_ = shards_of(package, MATRIX)
    host.faults[second] = [Fault(status=404)] * 2  # fetched ahead, and when it is asked for
    body = """
    const reader = await m.openPackage('f32');
    const error = await failed(joined(reader, args[0]));
    await reader.written();
    return error[1];
    """
    assert call(body, MATRIX) == "missing"
    page.reload()
    host.faults.clear()
    host.asked.clear()
    call("await joined(await m.openPackage('f32'), args[0]);", MATRIX)
    assert first not in host.names()
    assert second in host.names()


def test_a_stored_model_is_there_without_its_host(call, page, host, packages):
    call(LOAD, "f16")
    page.reload()
    page.route("**/f16/*", lambda route: route.abort())
    assert call(LOAD, "f16") == []


def test_a_shard_damaged_in_storage_is_fetched_again(call, page, host, packages):
    package = packages["f32"]
    first, *_ = shards_of(package, MATRIX)
    call(LOAD, "f32")
    body = (
        FOLDER
        + """
    const file = await folder.getFileHandle(args[0]);
    const stream = await file.createWritable({ keepExistingData: true });
    await stream.write({ type: 'write', position: 5, data: new Uint8Array([1, 2, 3, 4]) });
    await stream.close();
    """
    )
    call(body, first.removesuffix(".bin"))
    page.reload()
    host.asked.clear()
    for _ in range(2):
        data = call("const r = await m.openPackage('f32'); const all = await read(r, args[0]);"
                    "await r.written(); return all;", MATRIX)  # fmt: skip
        assert base64.b64decode(data) == stored_bytes(package, MATRIX)
    assert host.names() == [first]


def test_a_write_that_was_interrupted_stored_nothing(call, page, host, packages):
    call(LOAD, "f32")
    first, *_ = shards_of(packages["f32"], MATRIX)
    sha256 = first.removesuffix(".bin")
    interrupted = (
        FOLDER
        + """
    await folder.removeEntry(args[0]);
    await (await folder.getFileHandle(args[0], { create: true })).createWritable();
    """
    )
    call(interrupted, sha256)
    page.reload()
    body = "const reader = await m.openPackage('f32'); return reader.bytesMissing();"
    assert call(body) == nbytes(packages["f32"], first)
    assert call(STORE + "const store = await PackageStore.open(); await store.clear();"
                + FOLDER + "return (await folder.entries().next()).done;") is True  # fmt: skip


def test_variants_share_the_shards_that_are_the_same(call, host, packages):
    call(LOAD, "f16")
    host.asked.clear()
    body = "return (await m.openPackage('int4-f16-f16')).parts();"
    parts = call(body)
    assert parts["transformer"]["missing"] == parts["vae"]["missing"] == 0
    assert parts["text_encoder"]["missing"] == parts["text_encoder"]["bytes"] > 0
    call(LOAD, "int4-f16-f16")
    names = [n for n in packages["int4-f16-f16"].manifest.tensors if n.startswith("text_encoder/")]
    assert sorted(host.names()) == sorted(shards_of(packages["int4-f16-f16"], *names))


def test_what_is_stored_is_listed_and_can_be_deleted(call, page, host, packages):
    f16, mixed = packages["f16"], packages["int4-f16-f16"]
    assert call(LIST) == []
    call(LOAD, "f16")
    call("const r = await m.openPackage('int4-f16-f16'); await joined(r, args[0]);"
         "await r.written();", EMBEDDING)  # fmt: skip
    one, other = call(LIST)
    [shard] = shards_of(mixed, EMBEDDING)[:1]
    own = nbytes(mixed, *shards_of(mixed, EMBEDDING))
    shared = {s.sha256 for s in f16.manifest.shards} & {s.sha256 for s in mixed.manifest.shards}
    shared_bytes = nbytes(f16, *(f"{sha256}.bin" for sha256 in shared))
    assert shard not in shared
    assert one == {
        "packageId": f16.package_id, "modelId": f16.manifest.model_id, "title": "tiny-kl",
        "variant": "f16", "url": f"{host.url}f16/", "bytes": f16.manifest.nbytes,
        "total": f16.manifest.nbytes, "own": f16.manifest.nbytes - shared_bytes,
    }  # fmt: skip
    assert (other["variant"], other["bytes"]) == ("int4-f16-f16", shared_bytes + own)
    assert (other["total"], other["own"]) == (mixed.manifest.nbytes, own)

    remove = STORE + "const store = await PackageStore.open(); await store.remove(args[0]);" \
                     "return [await store.list(), (await store.shards()).size];"  # fmt: skip
    [left], shards = call(remove, f16.package_id)
    assert (left["variant"], left["bytes"]) == ("int4-f16-f16", shared_bytes + own)
    assert shards == len(shared) + len(shards_of(mixed, EMBEDDING))
    assert call(remove, mixed.package_id) == [[], 0]


def test_a_manifest_that_is_none_any_more_is_in_nobodys_way(call, host, packages):
    host.packages["old"] = lambda name: b'{"format": "p2pweb-package", "version": 0}'
    body = (
        STORE
        + """
    const data = new Uint8Array(await (await fetch('old/manifest.json')).arrayBuffer());
    const { sha256Of } = await import('/static/js/engine/package/sha256.js');
    const store = await PackageStore.open();
    await store.putManifest(await sha256Of(data), data, `${location}old/`);
    return store.list();
    """
    )
    assert call(body) == []
    call(LOAD, "f16")
    [stored] = call(LIST)
    assert stored["bytes"] == packages["f16"].manifest.nbytes


def test_everything_can_be_deleted(call):
    call(LOAD, "f16")
    body = (
        STORE
        + """
    const store = await PackageStore.open();
    await store.clear();
    return [(await store.shards()).size, await store.list()];
    """
    )
    assert call(body) == [0, []]


def test_a_package_that_was_packed_anew_takes_the_place_of_the_old_one(call, page, host, packages):
    host.packages["model"] = packages["f16"].path
    call(LOAD, "model")
    host.packages["model"] = packages["int4-f16-f16"].path
    host.asked.clear()
    page.reload()
    call(LOAD, "model")
    [stored] = call(LIST)
    assert stored["packageId"] == packages["int4-f16-f16"].package_id
    assert stored["bytes"] == stored["own"] == packages["int4-f16-f16"].manifest.nbytes
    body = STORE + "return [...await (await PackageStore.open()).shards()];"
    assert set(call(body)) == {s.sha256 for s in packages["int4-f16-f16"].manifest.shards}
    assert len(host.names()) < len(packages["int4-f16-f16"].manifest.shards)


def test_without_room_it_goes_on_without_storing_and_says_so(call, page, host, packages):
    package = packages["f32"]
    session = page.context.new_cdp_session(page)
    room = package.manifest.nbytes // 3
    session.send("Storage.overrideQuotaForOrigin", {"origin": host.url[:-1], "quotaSize": room})
    events = call(LOAD, "f32")
    unstored = [event for event in events if event["kind"] == "unstored"]
    assert [event["code"] for event in unstored] == ["full"]
    assert "no room left" in unstored[0]["message"]
    assert sorted(host.names()) == sorted(shard.file_name for shard in package.manifest.shards)
    data = call("return read(await m.openPackage('f32'), args[0]);", MATRIX)
    assert base64.b64decode(data) == stored_bytes(package, MATRIX)
    assert 0 < call(STORE + "return (await PackageStore.estimate()).usage;") < 2 * room


@pytest.mark.parametrize(
    ("room", "fits"), [({"usage": 10, "quota": 1000}, False), ({"usage": 1, "quota": 1e9}, True)]
)
def test_the_question_says_whether_the_browser_has_room(call, room, fits):
    """Chromium says that there is room whatever CDP makes its quota, so it is not asked here."""
    body = (
        f"navigator.storage.estimate = async () => ({json.dumps(room)});"
        """
    Object.defineProperty(navigator.connection, 'saveData', { get: () => true });
    const asked = [];
    const confirmDownload = ({ fits }) => asked.push(fits);
    await (await m.openPackage('f16', { confirmDownload })).prepare([args[0]]);
    return asked;
    """
    )
    assert call(body, EMBEDDING) == [fits]


def test_a_page_can_ask_the_browser_to_keep_what_is_stored(call, page, host):
    persist = STORE + "return PackageStore.persist();"
    assert call(persist) is False
    session = page.context.new_cdp_session(page)
    context = session.send("Target.getTargetInfo")["targetInfo"]["browserContextId"]
    granted = {"permissions": ["durableStorage"], "origin": host.url[:-1]}
    session.send("Browser.grantPermissions", {**granted, "browserContextId": context})
    assert call(persist) is True


def test_where_nothing_can_be_stored_models_load_all_the_same(call, page, packages):
    page.evaluate("navigator.storage.getDirectory = async () => { throw new Error('private'); }; 0")
    assert call(STORE + "return PackageStore.open();") is None
    data = call("return read(await m.openPackage('f32'), args[0]);", MATRIX)
    assert base64.b64decode(data) == stored_bytes(packages["f32"], MATRIX)


def test_two_tabs_load_the_same_model_at_once(call, page, host, packages):
    other = page.context.new_page()
    other.goto(host.url)
    for tab in (page, other):
        call_in(tab, f"globalThis.loading = (async () => {{ {LOAD} }})();", "f32")
    for tab in (page, other):
        call_in(tab, "await globalThis.loading;")
    [stored] = call(LIST)
    assert stored["bytes"] == packages["f32"].manifest.nbytes
