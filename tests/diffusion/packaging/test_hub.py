"""Fetching from a Hub that breaks off, forgets signatures and sends wrong bytes."""

import fcntl
import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

from diffusion.model_folder import find_models
from diffusion.packaging import hub as hubs
from diffusion.packaging.hub import HubError, fetch, look
from diffusion.packaging.source import model_id
from tests.diffusion.packaging.conftest import contents
from tests.diffusion.packaging.fake_hub import FakeHub

REPO = "Photoroom/tiny-prx"
LARGE = "text_encoder/model.safetensors"


@pytest.fixture(autouse=True)
def no_time_to_wait(monkeypatch):
    monkeypatch.setattr(hubs, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def repository(kl_folder, tmp_path) -> Path:
    """What is on the Hub: the model, and what else people put there."""
    folder = Path(shutil.copytree(kl_folder, tmp_path / "repository"))
    for name in ("README.md", "teaser.webp", "transformer/diffusion_pytorch_model.bin",
                 "text_encoder/model.fp16.safetensors", "unet/config.json"):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("not needed")
    return folder


@pytest.fixture
def hub(repository):
    with FakeHub(REPO, repository) as server:
        yield server


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def fetched(hub: FakeHub, root: Path, gained: list[int] | None = None) -> Path:
    heard: list[int] = [] if gained is None else gained
    return fetch(look(REPO, endpoint=hub.endpoint), root, heard.append)


def test_the_server_of_these_tests_speaks_the_hubs_dialect(hub, tmp_path, repository):
    """huggingface_hub itself says so."""
    url = hf_hub_url(REPO, LARGE, revision="main", endpoint=hub.endpoint)
    metadata = get_hf_file_metadata(url)
    assert metadata.commit_hash == hub.commit
    assert metadata.size == (repository / LARGE).stat().st_size
    assert metadata.location.startswith(hub.cdn)
    for name in (LARGE, "model_index.json"):
        file = hf_hub_download(REPO, name, endpoint=hub.endpoint, local_dir=tmp_path / "theirs")
        assert Path(file).read_bytes() == (repository / name).read_bytes()


def test_a_model_is_fetched_whole_and_nothing_else(hub, root, kl_folder):
    gained: list[int] = []
    folder = fetched(hub, root, gained)
    note = json.loads((folder / "hub.json").read_text())
    assert note == {"repo": REPO, "revision": hub.commit}
    found = contents(folder)
    del found["hub.json"]
    assert found == contents(kl_folder)
    assert list(find_models(root)) == ["tiny-prx"]
    assert model_id(folder) == model_id(kl_folder)
    assert sum(gained) == look(REPO, endpoint=hub.endpoint).nbytes


def test_its_size_is_known_before(hub, root):
    snapshot = look(REPO, endpoint=hub.endpoint)
    assert snapshot.commit == hub.commit
    assert snapshot.nbytes == sum(file.nbytes for file in snapshot.files) > 10**5
    assert snapshot.missing_bytes(root) == snapshot.nbytes
    assert not any("/resolve/" in path for _, path, _ in hub.asked)


def test_a_connection_that_breaks_off_goes_on_where_it_was(hub, root, repository):
    hub.cut_after = [1000, 5000, 0]
    folder = fetched(hub, root)
    weights = {name: hub.downloads(name) for name in hub.files() if hub.downloads(name)}
    cut = next(ranges for ranges in weights.values() if len(ranges) > 1)
    assert cut == [None, "bytes=1000-", "bytes=6000-", "bytes=6000-"]
    assert (folder / LARGE).read_bytes() == (repository / LARGE).read_bytes()


def test_every_attempt_asks_for_a_new_signature(hub, root, repository):
    hub.uses_of_a_signature = 1
    hub.cut_after = [2000, 3000]
    folder = fetched(hub, root)
    assert (folder / LARGE).read_bytes() == (repository / LARGE).read_bytes()


def test_a_signature_that_is_refused_is_asked_for_again(hub, root, repository):
    hub.refused = hubs._ATTEMPTS - 1
    folder = fetched(hub, root)
    assert (folder / LARGE).read_bytes() == (repository / LARGE).read_bytes()


def test_a_hub_that_always_refuses_is_given_up_with_a_reason(hub, root):
    hub.refused = 10**6
    with pytest.raises(HubError, match=r"the Hub answers 403: .* kept, try again later"):
        fetched(hub, root)
    assert find_models(root) == {}


def test_the_next_fetch_uses_what_an_interrupted_one_had(hub, root, repository):
    snapshot = look(REPO, endpoint=hub.endpoint)
    got = 0

    def interrupt(count: int) -> None:
        nonlocal got
        got += count
        if got > snapshot.nbytes // 2:
            raise KeyboardInterrupt

    hub.cut_after = [20_000] * 3  # some of it in pieces
    with pytest.raises(KeyboardInterrupt):
        fetch(snapshot, root, interrupt)
    assert find_models(root) == {}
    assert snapshot.missing_bytes(root) <= snapshot.nbytes - got
    hub.forget_bytes()
    gained: list[int] = []
    folder = fetch(snapshot, root, gained.append)
    assert sum(gained) == hub.forget_bytes() == snapshot.nbytes - got
    assert (folder / LARGE).read_bytes() == (repository / LARGE).read_bytes()


def test_a_server_without_ranges_is_read_from_the_start(hub, root, repository):
    hub.ignores_ranges = True
    hub.cut_after = [1000]
    gained: list[int] = []
    folder = fetched(hub, root, gained)
    assert (folder / LARGE).read_bytes() == (repository / LARGE).read_bytes()
    assert sum(gained) == look(REPO, endpoint=hub.endpoint).nbytes
    assert -1000 in gained


def test_wrong_bytes_are_fetched_again(hub, root, repository):
    hub.spoiled = 1
    gained: list[int] = []
    folder = fetched(hub, root, gained)
    assert (folder / LARGE).read_bytes() == (repository / LARGE).read_bytes()
    assert min(gained) < 0
    assert sum(gained) == look(REPO, endpoint=hub.endpoint).nbytes


def test_bytes_that_are_always_wrong_are_never_used(hub, root):
    hub.spoiled = 10**6
    with pytest.raises(HubError, match="its hash is wrong"):
        fetched(hub, root)
    assert find_models(root) == {}


def test_what_is_there_already_is_not_asked_for_again(hub, root):
    fetched(hub, root)
    hub.asked.clear()
    fetched(hub, root)
    assert not any("/resolve/" in path for _, path, _ in hub.asked)


def test_a_newer_commit_takes_the_place_of_the_older(hub, root, repository):
    fetched(hub, root)
    hub.commit = "beef" + 36 * "0"
    (repository / "p2pweb.json").write_text('{"title": "Newer"}')
    folder = fetched(hub, root)
    assert find_models(root)["tiny-prx"].title == "Newer"
    assert json.loads((folder / "hub.json").read_text())["revision"] == hub.commit
    assert [path.name for path in (root / ".incoming").iterdir()] == ["tiny-prx.lock"]


def test_a_revision_may_be_named(hub):
    assert look(REPO, "main", hub.endpoint).commit == hub.commit
    assert look(REPO, hub.commit, hub.endpoint).commit == hub.commit
    with pytest.raises(HubError, match="404"):
        look(REPO, "no-such-branch", hub.endpoint)


def test_the_token_goes_to_the_hub_and_to_nobody_else(hub, root, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetched(hub, root)
    for kind, path, headers in hub.asked:
        if kind == "cdn":
            assert "authorization" not in headers, path
        else:
            assert headers["authorization"] == "Bearer hf_secret", path


def test_a_folder_that_somebody_made_is_not_replaced(hub, root):
    (root / "tiny-prx").mkdir()
    with pytest.raises(HubError, match="was not fetched from Photoroom/tiny-prx"):
        fetched(hub, root)


def test_two_fetches_of_one_model_do_not_meet(hub, root):
    (root / ".incoming").mkdir()
    with (root / ".incoming" / "tiny-prx.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(HubError, match="another process is fetching tiny-prx"):
            fetched(hub, root)


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(hub, root, monkeypatch):
    class Disk:
        free = 10**6

    monkeypatch.setattr(hubs.shutil, "disk_usage", lambda path: Disk)
    with pytest.raises(HubError, match=r"1,000,000 free"):
        fetched(hub, root)
    assert not any("/resolve/" in path for _, path, _ in hub.asked)


def test_another_kind_of_pipeline_is_refused_before_its_weights_come(hub, root, repository):
    index = json.loads((repository / "model_index.json").read_text())
    (repository / "model_index.json").write_text(
        json.dumps(index | {"_class_name": "FluxPipeline"})
    )
    with pytest.raises(HubError, match="FluxPipeline"):
        fetched(hub, root)
    assert not any(kind == "cdn" and ".safetensors?" in path for kind, path, _ in hub.asked)


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ("model_index.json", "no pipeline of diffusers"),
        ("vae/config.json", r"lacks vae/config.json"),
        (LARGE, r"lacks text_encoder/model.safetensors"),
    ],
)
def test_what_is_no_prx_folder_is_refused(hub, repository, lacking, said):
    (repository / lacking).unlink()
    with pytest.raises(HubError, match=said):
        look(REPO, endpoint=hub.endpoint)


@pytest.mark.parametrize("repo", ["prx", "../../passwd", "a/b/c", "a/../b", "", "a/b?c", ".a/b"])
def test_what_is_no_name_of_a_model_is_refused(hub, repo):
    with pytest.raises(HubError, match="owner/name"):
        look(repo, endpoint=hub.endpoint)


def test_an_unknown_model_a_gated_one_and_no_hub_are_said(hub):
    with pytest.raises(HubError, match="404"):
        look("Photoroom/nothing", endpoint=hub.endpoint)
    hub.gated = True
    with pytest.raises(HubError, match="terms must be accepted"):
        look(REPO, endpoint=hub.endpoint)
    with pytest.raises(HubError, match="out of reach"):
        look(REPO, endpoint="http://127.0.0.1:9")
