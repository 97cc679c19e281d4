"""What went wrong, told by code and sentence; real backends and real models say it."""

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from genqueue import actions, files, lost_files, protocol
from genqueue.faults import SENTENCES, Fault, sentence
from genqueue.models import Chunk
from genqueue.representation import job_as_json
from genqueue.runner import Runner, fault_of
from tests.genqueue.conftest import chunk_of, settings_of


def run_once(worker):
    lease = worker.claim()
    Runner(stopping=lambda: False).run(lease)
    return chunk_of(lease)


@pytest.mark.django_db
class TestAJob:
    @pytest.fixture
    def job(self, alice):
        return actions.submit_job("kitchen", alice.client_id, settings_of())[0]

    def test_whose_model_cannot_be_read_says_so_and_no_path(self, job, worker, models):
        weights = next((models / "tiny" / "transformer").glob("*.safetensors"))
        weights.write_bytes(b"cut off")
        for _ in range(3):
            chunk = run_once(worker)
        job.refresh_from_db()
        assert job_as_json(job)["error"] == {
            "code": "model-unreadable", "detail": SENTENCES[Fault.MODEL_UNREADABLE],
        }  # fmt: skip
        assert "transformer" in chunk.error
        assert chunk.error in f"model-unreadable: {job.error_detail.removeprefix('encode: ')}"

    @pytest.mark.parametrize("left", [None, b"cut off"])
    def test_whose_encoding_was_lost_is_encoded_again(self, job, worker, models, left):
        run_once(worker)
        job.refresh_from_db()
        lost = job.conditioning
        files.delete([lost])
        if left is not None:
            default_storage.save(lost, ContentFile(left))
        chunk = run_once(worker)
        assert chunk.error.startswith(f"file-lost: FileLostError: {lost}: ")
        while (lease := worker.claim()) is not None:
            Runner(stopping=lambda: False).run(lease)
        job.refresh_from_db()
        assert job.state == "done"

    def test_whose_files_are_lost_again_and_again_fails_and_names_no_path(
        self, job, worker, models
    ):
        run_once(worker)
        job.images.update(put_back=lost_files.MOST_TIMES_BACK)
        job.refresh_from_db()
        files.delete([job.conditioning])
        for _ in range(3):
            chunk = run_once(worker)
        job.refresh_from_db()
        assert job_as_json(job)["error"]["code"] == "file-lost"
        assert job.conditioning in chunk.error
        assert job.conditioning not in str(job_as_json(job))

    @pytest.mark.parametrize("left", [None, b"cut off"])
    def test_whose_newest_checkpoint_was_lost_goes_on_from_the_one_before(
        self, job, worker, models, left
    ):
        for _ in range(2):
            run_once(worker)
        lease = worker.claim()
        older = lease.start
        latent = files.read(lease.latent)
        protocol.checkpoint(lease, older + 1, latent)
        protocol.release(lease)
        newest = job.images.get().checkpoints.latest("step").latent
        files.delete([newest])
        if left is not None:
            default_storage.save(newest, ContentFile(left))
        for faults in (1, 0):  # at the second the file is given up, and counting begins anew
            chunk = run_once(worker)
            assert (chunk.faults, chunk.error.partition(":")[0]) == (faults, "file-lost")
        assert worker.claim().start == older

    def test_goes_on_from_the_newest_when_one_worker_alone_cannot_reach_it(
        self, job, worker, other, models
    ):
        for _ in range(2):
            run_once(worker)
        lease = worker.claim()
        protocol.fail(lease, Fault.FILE_LOST)
        assert other.claim().latent == lease.latent

    def test_of_an_older_version_is_told_as_any_failure(self, job):
        job.state, job.error_code, job.error_detail = "failed", "encode-failed", "/srv/secret"
        error = job_as_json(job)["error"]
        assert error == {"code": "encode-failed", "detail": SENTENCES[Fault.COMPUTATION_FAILED]}


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_memory_is_told_apart_from_other_failures(error):
    assert fault_of(error) == Fault.OUT_OF_MEMORY
    assert fault_of(RuntimeError("shapes differ")) == Fault.COMPUTATION_FAILED


def test_a_real_allocation_that_fails_is_a_lack_of_memory():
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert fault_of(caught.value) == Fault.OUT_OF_MEMORY


def test_every_fault_has_a_sentence():
    for fault in Fault:
        assert sentence(fault) == SENTENCES[fault]
        assert sentence(fault).endswith(".")


@pytest.mark.django_db
def test_lost_workers_are_named_in_the_job(alice, worker):
    job, _token = actions.submit_job("kitchen", alice.client_id, settings_of())
    for _ in range(3):
        worker.claim()
        protocol.take_back(Chunk.objects.all(), Fault.WORKER_LOST, "late")
    job.refresh_from_db()
    assert job_as_json(job)["error"]["code"] == "worker-lost"
