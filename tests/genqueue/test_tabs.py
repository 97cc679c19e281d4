"""Tabs in the order of the queue: workers like all others, in one room."""

import pytest

from genqueue import actions, departure, protocol, tabs
from genqueue.faults import Fault
from genqueue.models import Chunk, Job, Room
from genqueue.representation import job_as_json, room_as_json
from tests.genqueue.conftest import Hand, measured, new_worker, settings_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("patient")]


def submit(person, room="kitchen", **changes) -> Job:
    return actions.submit_job(room, person.client_id, settings_of(**changes))[0]


def tab_of(person, room="kitchen") -> Hand:
    actions.make_room(room, person.client_id)
    return new_worker(f"tab of {person.label}", kind="tab", room_id=room, client=person.client_id)


class TestTheirTurns:
    def test_a_tab_does_a_whole_job_of_its_room_and_none_of_another(self, alice, bob):
        tab = tab_of(bob)
        submit(alice, room="elsewhere")
        job = submit(alice)
        assert {lease.job_id for lease in tab.do_all()} == {job.pk}
        job.refresh_from_db()
        assert job.state == "done"

    def test_the_slower_one_leaves_an_image_to_the_faster_one(self, alice, bob, worker):
        tab = tab_of(bob)
        measured(worker, factor=20)
        measured(tab)
        submit(alice)
        assert worker.claim() is None
        assert tab.claim() is not None

    def test_a_faster_tab_of_another_room_is_no_reason_to_wait(self, alice, bob, worker):
        measured(worker, factor=20)
        measured(tab_of(bob, room="elsewhere"))
        submit(alice)
        assert worker.claim() is not None

    def test_a_faster_tab_takes_over_what_the_server_has_begun(self, alice, bob, worker):
        tab = tab_of(bob)
        measured(worker, factor=20)
        submit(alice)
        worker.do_next()
        worker.do_next()
        measured(tab)
        assert worker.claim() is None
        assert tab.claim().kind == "denoise"

    def test_a_fast_tab_is_no_reason_to_wait_where_the_owner_lets_none_compute(
        self, alice, bob, worker
    ):
        measured(worker, factor=20)
        measured(tab_of(bob))
        submit(alice)
        Room.objects.update(tabs_help=False)
        assert worker.claim() is not None

    def test_idle_tabs_are_sent_no_message(
        self, alice, bob, worker, broker, django_capture_on_commit_callbacks
    ):
        tab_of(bob)
        with django_capture_on_commit_callbacks(execute=True):
            submit(alice)
        assert set(broker.woken()) == {worker.id}

    def test_times_are_expected_of_tabs_too(self, alice, bob):
        measured(tab_of(bob))
        job = submit(alice)
        assert job_as_json(job)["eta_seconds"] == pytest.approx(1.3, abs=0.1)
        assert job_as_json(submit(alice, room="elsewhere"))["eta_seconds"] is None


class TestWhatTheyFailedAt:
    def test_goes_to_the_server(self, alice, bob, worker):
        tab = tab_of(bob)
        submit(alice)
        protocol.fail(tab.claim(), Fault.COMPUTATION_FAILED)
        assert tab.claim() is None
        assert worker.claim() is not None

    def test_what_the_server_failed_at_goes_to_a_tab(self, alice, bob, worker):
        tab = tab_of(bob)
        submit(alice)
        protocol.fail(worker.claim(), Fault.COMPUTATION_FAILED)
        assert worker.claim() is None
        assert tab.claim() is not None

    def test_and_not_to_a_tab_of_another_room(self, alice, bob, worker):
        tab_of(bob, room="elsewhere")
        submit(alice)
        protocol.fail(worker.claim(), Fault.COMPUTATION_FAILED)
        assert worker.claim() is not None, "there is nobody else"

    def test_the_last_try_is_the_servers_even_when_it_has_failed_itself(self, alice, bob, worker):
        submit(alice)
        tab = tab_of(bob)
        protocol.fail(tab.claim(), Fault.RESULT_REFUSED)
        protocol.fail(worker.claim(), Fault.COMPUTATION_FAILED)
        assert tab.claim() is None
        assert worker.claim() is not None, "else nobody would ever try it"

    @pytest.mark.parametrize("server_helps", [True, False])
    def test_the_last_try_is_the_servers_where_it_helps(
        self, alice, bob, charlie, worker, server_helps
    ):
        submit(alice)
        Room.objects.update(server_helps=server_helps)
        for person in (bob, charlie):
            protocol.fail(tab_of(person).claim(), Fault.RESULT_REFUSED)
        assert (tab_of(alice).claim() is None) is server_helps
        assert (worker.claim() is not None) is server_helps


class TestSwitchingThemOff:
    def test_gives_back_what_they_hold_and_what_is_kept_for_them(self, alice, bob, worker):
        tab = tab_of(bob)
        submit(alice, num_images=2)
        tab.do_next()
        lease = tab.claim()
        actions.let_tabs_help(Room.objects.get(pk="kitchen"), False)
        chunk = Chunk.objects.get(pk=lease.chunk_id)
        assert (chunk.state, chunk.faults) == ("pending", 0)
        assert tab.row().state == "gone"
        assert worker.claim() is not None

    def test_spares_tabs_of_other_rooms(self, alice, bob):
        tab = tab_of(bob, room="elsewhere")
        actions.make_room("kitchen", alice.client_id)
        actions.let_tabs_help(Room.objects.get(pk="kitchen"), False)
        assert tab.row().state == "ready"

    def test_removing_a_client_sends_its_tabs_home_and_no_others(self, alice, bob, charlie):
        theirs, others = tab_of(bob), tab_of(charlie)
        actions.remove_client(Room.objects.get(pk="kitchen"), bob.label)
        assert (theirs.row().state, others.row().state) == ("gone", "ready")


def test_pictures_name_the_tab_by_its_public_label(alice, bob):
    tab = tab_of(bob)
    job = submit(alice)
    tab.do_all()
    [image] = job_as_json(job)["images"]
    assert image["worker"] == {
        "id": str(tab.id), "name": f"tab of {bob.label}", "kind": "tab", "client": bob.label,
        "device": "cpu", "kernels": "",
    }  # fmt: skip
    assert bob.client_id not in str(room_as_json("kitchen"))


def test_the_admin_shows_tabs_and_not_whose_secret_they_go_by(admin_client, bob):
    tab = tab_of(bob)
    for path in ("/admin/queue/worker/", f"/admin/queue/worker/{tab.id}/change/"):
        page = admin_client.get(path).content.decode()
        assert bob.label in page
        assert bob.client_id not in page


def test_a_looking_tab_writes_nothing_while_there_is_nothing_to_do(
    alice, bob, django_assert_num_queries
):
    tab = tab_of(bob)
    with django_assert_num_queries(3) as asked:  # its row, faulty or own chunks, any
        assert tabs.next_lease(tab.id) is None
    assert all(query["sql"].startswith("SELECT") for query in asked.captured_queries)


def test_what_was_open_and_is_taken_since_costs_a_looking_tab_one_query(
    alice, bob, django_assert_num_queries
):
    submit(alice)
    first, second = tab_of(alice), tab_of(bob)
    seen = tabs.standing("kitchen")
    assert len(seen.open) == 1
    assert tabs.next_lease(first.id, seen.open) is not None
    with django_assert_num_queries(1):
        assert tabs.next_lease(second.id, seen.open) is None


def test_the_standing_of_a_room_is_that_of_its_workers(alice, bob):
    submit(alice)
    first, second = tab_of(alice), tab_of(bob)
    tab_of(bob, room="attic")
    lease = first.claim()
    now = tabs.standing("kitchen")
    assert now.ready == {first.id, second.id}
    assert now.leased == {(lease.chunk_id, lease.attempt, first.id)}
    assert (now.open, now.kept) == (frozenset(), {})
    departure.worker_is_gone(first.id, crashed=False)
    now = tabs.standing("kitchen")
    assert (now.ready, now.leased) == ({second.id}, frozenset())
    assert now.open == {(lease.chunk_id, lease.attempt + 1)}
    second.do_next()  # the encoding, which is checked; it goes on with the image
    now = tabs.standing("kitchen")
    kinds = dict(Chunk.objects.values_list("pk", "kind"))
    assert [kinds[pk] for pk, _attempt in now.open] == ["check"]
    assert [kinds[pk] for pk, _attempt in now.kept] == ["denoise"]
