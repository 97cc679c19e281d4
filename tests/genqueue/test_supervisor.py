"""What the supervisor remembers of its worker."""

import pytest

from genqueue.supervisor import Supervisor


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
