"""Spot checks in the queue: who is checked, by whom, and what follows."""

from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from genqueue import (
    actions,
    checks,
    comparing,
    fairness,
    files,
    finishing,
    protocol,
    retention,
    sweeper,
)
from genqueue.check_models import Check, ShutOut
from genqueue.faults import Fault
from genqueue.kinds import WorkerKind
from genqueue.models import Chunk, Image, Job, Room, Worker
from genqueue.problems import Problem
from genqueue.representation import job_as_json, room_as_json
from tests.genqueue.conftest import settings_of
from tests.genqueue.volunteers import compare_words, row, server, states, volunteer, work

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def words(monkeypatch):
    monkeypatch.setattr(comparing, "compare", compare_words)


@pytest.fixture
def no_dice(monkeypatch):
    """Whoever has proven itself is not drawn."""
    monkeypatch.setattr(checks._dice, "random", lambda: 0.999)


def submit(person, room="kitchen", **changes) -> Job:
    return actions.submit_job(room, person.client_id, settings_of(steps=4, **changes))[0]


def now(job: Job) -> Job:
    job.refresh_from_db()
    return job


def proven(hand, valid: int = 1000) -> None:
    Worker.objects.filter(pk=hand.id).update(valid=valid)


class TestWhoIsChecked:
    def test_the_servers_own_workers_are_not(self, alice):
        job = submit(alice)
        work(server())
        assert now(job).state == "done"
        assert not Check.objects.exists()

    @pytest.mark.parametrize("kind", [WorkerKind.TAB, WorkerKind.REMOTE])
    def test_all_that_a_newcomer_hands_in(self, alice, bob, kind):
        job = submit(alice)
        work(volunteer(bob, kind), server())
        assert now(job).state == "done"
        of_bob = Check.objects.filter(job=job)
        assert of_bob.count() >= 1
        assert set(states(job)) == {"agreed"}

    def test_who_multiplies_in_f16_has_a_limit_of_its_own(self, alice, bob):
        job, hand = submit(alice), volunteer(bob)
        kernels = {"variant": "f16", "kernels": "few 64x64x8x2, many 128x128x16f16"}
        Worker.objects.filter(pk=hand.id).update(**kernels)
        work(hand, server())
        found = Check.objects.filter(job=job).values_list("variant", flat=True)
        assert set(found) == {"f16 half"}

    def test_who_has_proven_itself_is_drawn_now_and_then(self):
        assert [checks.probability(n) for n in (0, 9, 10, 15, 20, 1000)] == pytest.approx(
            [1, 1, 0.1, 1 / 15, 0.05, 0.05]
        )

    def test_who_is_not_drawn_is_believed(self, alice, bob, no_dice):
        tab = volunteer(bob)
        proven(tab)
        job = submit(alice)
        work(tab)
        assert now(job).state == "done"
        assert set(states(job)) == {"spared"}
        assert not Chunk.objects.filter(kind="check").exists()
        assert job_as_json(job)["images"][0]["doubt"] is None

    def test_nobody_where_checks_are_switched_off(self, alice, bob, settings):
        settings.P2PWEB_SPOT_CHECKS = False
        job = submit(alice)
        work(volunteer(bob))
        assert now(job).state == "done"
        assert not Check.objects.exists()

    def test_each_agreement_counts_once(self, alice, bob):
        tab = volunteer(bob)
        job = submit(alice)
        work(tab)
        work(server())
        assert row(tab).valid == len(states(job)) == 4  # encode, two ranges, decode

    def test_what_a_broken_off_lease_has_left_is_checked_too(self, alice, bob):
        tab = volunteer(bob)
        submit(alice)
        tab.do_next()
        lease = tab.claim()
        protocol.checkpoint(lease, 1, b"half of it")
        protocol.release(lease)
        found = Check.objects.get(kind="denoise")
        assert (found.state, found.start, found.stop) == ("open", 0, 1)

    def test_a_lease_that_left_nothing_leaves_no_check(self, alice, bob):
        tab = volunteer(bob)
        submit(alice)
        protocol.fail(tab.claim(), Fault.COMPUTATION_FAILED)
        assert not Check.objects.exists()


class TestWhoChecks:
    def test_never_the_same_client(self, alice, bob):
        job = submit(alice)
        work(volunteer(bob), volunteer(bob))
        assert now(job).state == "done"
        assert set(states(job)) == {"open"}

    def test_another_client(self, alice, bob, charlie):
        job = submit(alice)
        work(volunteer(bob), volunteer(charlie))
        assert set(states(job)) == {"agreed"}
        for check in Check.objects.select_related("checker"):
            assert check.checker.client != check.client

    def test_a_trusted_worker_first(self, alice, bob, charlie, monkeypatch):
        tab, other, ours = volunteer(bob), volunteer(charlie), server()
        submit(alice)
        tab.do_next()
        other_lease = other.claim()
        assert other_lease is None or other_lease.check_id is None
        assert ours.claim().check_id is not None

    def test_another_one_when_the_trusted_does_not_come(self, alice, bob, charlie):
        tab, other = volunteer(bob), volunteer(charlie)
        server()
        submit(alice)
        tab.do_next()
        long_ago = timezone.now() - 2 * fairness.TRUSTED_FIRST
        Chunk.objects.filter(kind="check").update(created_at=long_ago)
        assert other.claim().check_id is not None

    def test_computes_what_was_computed(self, alice, bob, charlie):
        tab, other = volunteer(bob), volunteer(charlie)
        submit(alice)
        encoding = tab.claim()
        tab.finish(encoding)
        check = other.claim()
        assert (check.kind, check.job_id, check.settings) == (
            encoding.kind, encoding.job_id, encoding.settings,
        )  # fmt: skip
        other.finish(check)
        steps = tab.claim()
        tab.finish(steps)
        check = other.claim()
        assert check.fresh
        same = ("kind", "start", "stop", "latent", "conditioning", "seed", "index", "image_id")
        assert [getattr(check, name) for name in same] == [getattr(steps, name) for name in same]

    def test_and_nothing_is_built_on_what_a_checker_computes(self, alice, bob):
        tab, ours = volunteer(bob), server()
        submit(alice)
        tab.do_next()
        tab.do_next()
        ours.do_next()
        lease = ours.claim()
        assert lease.check_id is not None
        before = Image.objects.values().get()
        protocol.checkpoint(lease, 1, b"a latent", b"a preview")
        assert Image.objects.values().get() == before


class TestWithNobodyToCheck:
    def test_a_picture_is_done_and_marked(self, alice, bob):
        job = submit(alice)
        work(volunteer(bob))
        assert now(job).state == "done"
        assert job_as_json(job)["images"][0]["doubt"] == "unchecked"

    def test_it_is_checked_when_somebody_comes(self, alice, bob):
        job = submit(alice)
        work(volunteer(bob))
        work(server())
        assert set(states(job)) == {"agreed"}
        assert job_as_json(job)["images"][0]["doubt"] is None

    def test_and_marked_as_wrong_when_it_was(self, alice, bob):
        job = submit(alice)
        work(volunteer(bob, lies=True))
        work(server())
        assert job_as_json(job)["images"][0]["doubt"] == "wrong"
        assert ShutOut.objects.get().label == bob.label

    def test_a_picture_waits_while_somebody_could(self, alice, bob):
        tab = volunteer(bob)
        job = submit(alice)
        work(tab)
        job = submit(alice)
        ours = server()
        work(tab)
        assert now(job).state == "running"
        work(ours)
        assert now(job).state == "done"

    def test_and_says_whether_somebody_does(self, alice, bob):
        ours, tab = server(), volunteer(bob)
        job = submit(alice)
        work(tab)
        seen = Room.objects.get(pk=job.room_id).revision
        assert job_as_json(job)["images"][0]["check"] == "waiting"
        lease = ours.claim()
        assert lease.check_id is not None
        assert job_as_json(job)["images"][0]["check"] == "running"
        assert Room.objects.get(pk=job.room_id).revision > seen, "pages hear of it"
        protocol.release(lease)
        assert job_as_json(job)["images"][0]["check"] == "waiting"
        work(ours)
        assert job_as_json(now(job))["images"][0]["check"] is None
        assert job.state == "done"

    def test_a_picture_that_is_not_there_yet_waits_for_no_check(self, alice, bob):
        tab, _ours = volunteer(bob), server()
        job = submit(alice)
        tab.do_next()
        tab.do_next()
        assert Check.objects.filter(job=job, state="open").exists()
        assert job_as_json(job)["images"][0]["check"] is None

    def test_and_no_longer_when_they_have_left(self, alice, bob):
        ours, tab = server(), volunteer(bob)
        job = submit(alice)
        work(tab)
        assert now(job).state == "running"
        Worker.objects.filter(pk=ours.id).update(state="gone")
        sweeper.sweep()
        assert now(job).state == "done"

    def test_nor_for_ever(self, alice, bob):
        server()
        job = submit(alice)
        work(volunteer(bob))
        long_ago = timezone.now() - 2 * finishing.PATIENCE
        Check.objects.update(created_at=long_ago)
        sweeper.sweep()
        assert now(job).state == "done"
        assert job_as_json(job)["images"][0]["doubt"] == "unchecked"

    def test_files_are_kept_for_an_hour_and_no_longer(
        self, alice, bob, django_capture_on_commit_callbacks
    ):
        job = submit(alice)
        work(volunteer(bob))
        folder = f"jobs/{job.pk}"
        for given, result in Check.objects.values_list("given", "result"):
            assert default_storage.exists(result)
            assert not given or default_storage.exists(given)
        Check.objects.update(created_at=timezone.now() - 2 * checks.KEPT_FOR)
        with django_capture_on_commit_callbacks(execute=True):
            sweeper.sweep()
        assert set(states(job)) == {"lapsed"}
        assert default_storage.listdir(folder)[1] == [Image.objects.get().picture.split("/")[-1]]
        assert not Chunk.objects.filter(state__in=["pending", "leased"]).exists()

    def test_the_texts_stay_while_steps_may_be_computed_again(
        self, alice, bob, django_capture_on_commit_callbacks
    ):
        job = submit(alice)
        work(volunteer(bob))
        assert now(job).state == "done"
        texts = now(job).conditioning
        ours = server()
        with django_capture_on_commit_callbacks(execute=True):
            lease = ours.claim()
            assert lease.kind == "encode"
            ours.finish(lease)
        assert default_storage.exists(texts)
        with django_capture_on_commit_callbacks(execute=True):
            work(ours)
        assert set(states(job)) == {"agreed"}
        assert not default_storage.exists(texts)


class TestALiar:
    @pytest.mark.parametrize("kind", ["encode", "denoise", "decode"])
    def test_is_shut_out_and_its_work_is_done_again(self, alice, bob, kind):
        tab, ours = volunteer(bob), server()
        job = submit(alice)
        while (lease := tab.claim()) is not None:
            if lease.kind == kind:
                protocol.complete(lease, b"a lie", 0.5)
                break
            tab.finish(lease)
        work(ours)
        assert now(job).state == "done"
        assert Check.objects.get(state="wrong").kind == kind
        assert row(tab).state == "gone"
        image = job.images.get()
        assert b"a lie" not in files.read(image.picture)
        assert image.doubt == ""

    def test_says_so_to_everybody(self, alice, bob):
        submit(alice)
        tab, ours = volunteer(bob, lies=True), server()
        tab.do_next()
        ours.do_next()
        [said] = room_as_json("kitchen")["shut_out"]
        assert (said["name"], said["client"]) == (f"tab of {bob.label}", bob.label)
        assert said["reason"].startswith("the encoded prompt differed from what others computed")

    def test_goes_with_all_that_its_client_has_brought(self, alice, bob, charlie):
        submit(alice, num_images=2)
        tab, second, third = volunteer(bob, lies=True), volunteer(bob), volunteer(charlie)
        tab.do_next()
        server().do_next()
        assert [row(hand).state for hand in (tab, second, third)] == ["gone", "gone", "ready"]

    def test_comes_back_neither_as_itself_nor_at_once_as_somebody_else(self, alice, bob, charlie):
        from genqueue.admission import refuse_unwanted

        submit(alice)
        volunteer(bob, lies=True, network="n1").do_next()
        server().do_next()
        room = ShutOut.objects.get().room
        for client, network, code in (
            (bob.client_id, "", "shut-out"), (charlie.client_id, "n1", "network-shut-out"),
        ):  # fmt: skip
            with pytest.raises(Problem) as refused:
                refuse_unwanted(room, client, network)
            assert refused.value.code == code
        refuse_unwanted(room, charlie.client_id, "n2")
        ShutOut.objects.update(created_at=timezone.now() - timedelta(hours=1))
        refuse_unwanted(room, charlie.client_id, "n1")

    def test_takes_its_unchecked_work_on_other_pictures_along(self, alice, bob, no_dice):
        tab = volunteer(bob)
        proven(tab)
        other = submit(alice)
        tab.do_next()
        tab.do_next()  # two steps of it, believed
        assert other.images.get().step == 2
        tab_again = volunteer(bob, lies=True)  # a second tab of the same person
        submit(alice)
        while (lease := tab_again.claim()) is not None and lease.job_id == other.pk:
            protocol.release(lease)
        if lease is not None:
            tab_again.finish(lease)
        work(server())
        assert now(other).state == "done"
        assert other.images.get().put_back == 1

    def test_of_an_image_loses_only_its_own_part(self, alice, bob):
        ours, tab = server(), volunteer(bob, lies=True)
        job = submit(alice)
        ours.do_next()
        ours.do_next()  # two steps
        Image.objects.update(worker=None)
        tab.do_next()
        good = ours.claim()
        ours.finish(good)
        assert Check.objects.get().state == "wrong"
        image = job.images.get()
        assert (image.step, image.state) == (2, "running")
        assert image.checkpoints.get(step=2).latent == Check.objects.get().given
        work(ours)
        assert now(job).state == "done"


class TestTwoWhoDisagree:
    def test_are_judged_by_the_third(self, alice, bob, charlie):
        submit(alice)
        honest, liar = volunteer(bob), volunteer(charlie, lies=True)
        honest.do_next()
        liar.do_next()
        check = Check.objects.get()
        assert (check.state, check.opinions) == ("open", 1)
        assert not ShutOut.objects.exists()
        third = volunteer(alice)
        third.do_next()
        assert Check.objects.get(pk=check.pk).state == "agreed"
        assert ShutOut.objects.get().label == charlie.label

    def test_and_the_liar_is_the_one_whose_result_it_was(self, alice, bob, charlie):
        job = submit(alice)
        volunteer(bob, lies=True).do_next()
        volunteer(charlie).do_next()
        third = volunteer(alice)
        third.do_next()
        assert ShutOut.objects.get().label == bob.label
        assert Check.objects.get().state == "wrong"
        assert files.read(now(job).conditioning) == b"encode 0..0 of (noise, )"

    def test_nobody_is_blamed_while_there_is_no_third(self, alice, bob, charlie):
        job = submit(alice)
        work(volunteer(bob), volunteer(charlie, lies=True))
        sweeper.sweep()
        assert now(job).state == "done"
        assert not ShutOut.objects.exists()
        assert job_as_json(job)["images"][0]["doubt"] == "unchecked"

    def test_three_who_disagree_wait_for_one_who_is_trusted(self, alice, bob, charlie):
        submit(alice)
        volunteer(bob).do_next()
        volunteer(charlie, lies=True).do_next()
        volunteer(alice, lies=True).do_next()
        check = Check.objects.get()
        assert (check.state, check.opinions) == ("open", 2)
        assert not fairness.has_checker(check)
        server().do_next()
        assert Check.objects.get(pk=check.pk).state == "agreed"
        assert ShutOut.objects.get().label == charlie.label


class TestEndings:
    def test_a_check_that_fails_thrice_harms_nobody(self, alice, bob):
        tab, ours = volunteer(bob), server()
        job = submit(alice)
        tab.do_next()
        for _ in range(3):
            protocol.fail(ours.claim(), Fault.COMPUTATION_FAILED)
        assert Check.objects.get().state == "lapsed"
        work(tab, ours)
        assert now(job).state == "done"
        assert job_as_json(job)["images"][0]["doubt"] == "unchecked"

    def test_a_lost_file_makes_no_liar(self, alice, bob):
        tab, ours = volunteer(bob), server()
        submit(alice)
        tab.do_next()
        lease = ours.claim()
        default_storage.delete(Check.objects.get().result)
        ours.finish(lease)
        assert Check.objects.get().state == "lapsed"
        assert not ShutOut.objects.exists()

    def test_cancelling_a_job_ends_its_checks(self, alice, bob, django_capture_on_commit_callbacks):
        job = submit(alice)
        server()
        work(volunteer(bob))
        with django_capture_on_commit_callbacks(execute=True):
            actions.cancel_job(now(job))
        assert set(states(job)) == {"dropped"}
        assert not Chunk.objects.filter(state__in=["pending", "leased"]).exists()
        assert default_storage.listdir(f"jobs/{job.pk}")[1] == []

    def test_a_checker_that_is_late_changes_nothing(self, alice, bob):
        tab, ours = volunteer(bob), server()
        submit(alice)
        tab.do_next()
        lease = ours.claim()
        Chunk.objects.filter(pk=lease.chunk_id).update(deadline=timezone.now())
        sweeper.sweep()
        with pytest.raises(protocol.LeaseLostError):
            ours.finish(lease)
        assert Check.objects.get().state == "open"

    def test_removing_an_unchecked_picture_removes_its_checks(self, alice, bob):
        job = submit(alice)
        work(volunteer(bob))
        actions.delete_image(job.images.get())
        assert not Check.objects.exists()

    def test_old_chunks_go_with_their_checks(self, alice, bob, settings):
        job = submit(alice)
        work(volunteer(bob), server())
        long_ago = timezone.now() - timedelta(days=30)
        Job.objects.update(finished_at=long_ago)
        Chunk.objects.update(finished_at=long_ago)
        retention.prune(timezone.now())
        assert not Check.objects.filter(job=job).exists()

    def test_the_expected_time_of_a_waiting_picture_is_now(self, alice, bob):
        server()
        job = submit(alice)
        work(volunteer(bob))
        assert job_as_json(now(job))["eta_seconds"] == 0


def test_the_admin_shows_checks_and_lets_people_in_again(admin_client, alice, bob):
    submit(alice)
    volunteer(bob, lies=True).do_next()
    server().do_next()
    check, row_of_bob = Check.objects.get(), ShutOut.objects.get()
    for path in (
        "/admin/queue/check/", f"/admin/queue/check/{check.pk}/change/",
        "/admin/queue/shutout/", f"/admin/queue/shutout/{row_of_bob.pk}/change/",
    ):  # fmt: skip
        page = admin_client.get(path).content.decode()
        assert f"tab of {bob.label}" in page
        assert bob.client_id not in page
    admin_client.post(f"/admin/queue/shutout/{row_of_bob.pk}/delete/", {"post": "yes"})
    assert not ShutOut.objects.exists()
