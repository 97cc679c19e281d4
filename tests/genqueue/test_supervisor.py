"""What the supervisor remembers of its worker, and that it never gives up."""

import pytest

from genqueue import supervisor
from genqueue.supervisor import Supervisor
from tests.genqueue.processes import until


@pytest.fixture(autouse=True)
def data_folder(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    return tmp_path


def test_a_worker_keeps_its_id_over_restarts_of_the_site(data_folder):
    assert Supervisor().worker_id == Supervisor().worker_id
    assert [path.name for path in data_folder.iterdir()] == ["worker-id"]


@pytest.mark.parametrize("content", [b"", b"\n", b"not an id", b"\xff\xfe\x00", b"1234"])
def test_a_file_without_an_id_is_replaced(data_folder, content):
    (data_folder / "worker-id").write_bytes(content)
    worker_id = Supervisor().worker_id
    assert (data_folder / "worker-id").read_text() == str(worker_id)
    assert Supervisor().worker_id == worker_id


def test_a_worker_that_cannot_be_started_is_tried_again(settings, data_folder, monkeypatch, caplog):
    settings.BASE_DIR = data_folder / "not there"
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_SECONDS", 0.01)
    keeper = Supervisor()
    keeper.start()
    try:
        until(lambda: caplog.text.count("could not be started") >= 3, 10, "the third try")
        assert keeper.is_alive()
    finally:
        keeper.stop()
    assert not keeper.is_alive()
