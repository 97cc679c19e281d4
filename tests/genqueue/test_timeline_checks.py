"""What checks have found is in the timeline: who checked what, the verdict, and by how much."""

import pytest

from genqueue import actions, comparing, timeline, timeline_json
from genqueue.clients import client_label
from genqueue.models import Image, Job, Worker
from tests.genqueue.conftest import settings_of
from tests.genqueue.volunteers import compare_words, server, volunteer, work


def checked(start=0, stop=0, **more):
    return {
        "kind": "denoise", "start": start, "stop": stop, "worker": "one", "checker": "two",
        "verdict": "agreed", "again": False, "distance": 0.001, "limit": 0.002, "at": 1,
        "checks": 1, **more,
    }  # fmt: skip


def test_agreements_in_a_row_are_one_and_the_largest_distance():
    together = timeline.with_check([checked(0, 2)], checked(2, 5, distance=0.0015, at=7))
    assert together == [checked(0, 5, distance=0.0015, at=7, checks=2)]
    assert timeline.with_check(together, checked(5, 6))[0]["distance"] == 0.0015
    for other in (
        checked(3, 5), checked(2, 5, checker="three"), checked(2, 5, worker="three"),
        checked(2, 5, limit=0.1), checked(2, 5, verdict="disputed"),
        checked(2, 5, verdict="unsaid", checker=None, distance=None, limit=None),
    ):  # fmt: skip
        assert timeline.with_check([checked(0, 2)], other) == [checked(0, 2), other]
    for other in (checked(3, 5, verdict="wrong"), checked(3, 5, verdict="disputed")):
        assert timeline.with_check([other], checked(5, 6)) == [other, checked(5, 6)]
    texts = checked(kind="encode")
    assert timeline.with_check([texts], texts) == [texts, texts]


def test_they_are_bounded_and_what_was_wrong_stays_longest():
    found = [checked(0, 1, verdict="wrong")]
    for number in range(2 * timeline.MOST_CHECKS):
        found = timeline.with_check(found, checked(2 * number, 2 * number + 1))
    assert len(found) == timeline.MOST_CHECKS
    assert found[0]["verdict"] == "wrong"
    assert found[-1]["start"] == 4 * timeline.MOST_CHECKS - 2


@pytest.fixture(autouse=True)
def words(monkeypatch):
    monkeypatch.setattr(comparing, "compare", compare_words)


def submit(person, **changes) -> Job:
    return actions.submit_job("kitchen", person.client_id, settings_of(steps=4, **changes))[0]


def told(job: Job, index: int = 0):
    image = Image.objects.select_related("job").get(job=job, index=index)
    return timeline_json.as_json(image)["checks"]


def short(checks):
    return [
        (one["kind"], one["start"], one["stop"], one["verdict"], one["done_again"])
        for one in checks
    ]


@pytest.mark.django_db
def test_the_api_says_who_checked_what_and_by_how_much(alice, bob, client):
    job = submit(alice)
    tab, ours = volunteer(bob), server()
    work(tab, ours)
    answer = client.get(f"/api/jobs/{job.pk}/images/0/timeline").json()
    encode = answer["checks"][0]
    assert encode["worker"]["id"] == str(tab.id)
    assert encode["worker"]["client"] == client_label(bob.client_id)
    assert encode["checker"]["name"] == "server"
    assert (encode["verdict"], encode["distance"], encode["limit"]) == ("agreed", 0.0, 0.5)
    assert encode["at"] is not None
    theirs = [one for one in answer["entries"] if one["worker"]["id"] == str(tab.id)]
    assert sum(one["chunks"] for one in theirs) == sum(one["checks"] for one in answer["checks"])
    assert bob.client_id not in str(Image.objects.get(job=job).timeline)


@pytest.mark.django_db
def test_a_lie_is_there_with_what_became_of_it_and_its_steps_count_for_nobody(alice, bob, charlie):
    job = submit(alice)
    honest, liar, ours = volunteer(charlie), volunteer(bob, lies=True), server()
    honest.do_next()
    Image.objects.update(worker=None)  # anybody may go on
    liar_lease = liar.claim()
    assert liar_lease is not None
    assert liar_lease.kind == "denoise"
    liar.finish(liar_lease)
    work(ours)
    found = [one for one in told(job) if one["worker"]["id"] == str(liar.id)]
    assert short(found) == [("denoise", 0, liar_lease.stop, "wrong", True)]
    assert (found[0]["distance"], found[0]["limit"]) == (1.0, 0.5)
    image = Image.objects.get(job=job)
    assert image.state == "done"
    assert timeline.steps_by(timeline.entries_of(image.timeline)) == {str(ours.id): 4}


@pytest.mark.django_db
def test_what_was_finished_before_is_not_done_again_but_for_its_decoding(alice, bob):
    job = submit(alice)
    work(volunteer(bob, lies=True))
    waiting = told(job)
    assert {one["verdict"] for one in waiting} == {"waiting"}
    assert all(one["checker"] is None and one["at"] is None for one in waiting)
    ours = server()
    leases = [ours.claim()]
    assert [one["checker"]["name"] for one in told(job) if one["checker"]] == ["server"]
    ours.finish(leases[0])
    work(ours)
    found = short(told(job))
    assert found[0] == ("encode", 0, 0, "wrong", False)
    assert ("decode", 0, 0, "wrong", True) in found
    assert not any(again for kind, *_, again in found if kind == "denoise")


@pytest.mark.django_db
def test_what_is_found_of_the_texts_is_in_all_pictures_and_their_leases_stay_apart(alice, bob):
    job = submit(alice, num_images=2)
    tab, ours = volunteer(bob), server()
    tab.do_next()
    first = Image.objects.get(job=job, index=0)
    Image.objects.filter(pk=first.pk).update(
        timeline={**first.timeline, "entries": [*first.timeline["entries"], {"of": "the first"}]}
    )
    lease = ours.claim()
    assert lease.check_id is not None
    ours.finish(lease)
    for index in (0, 1):
        assert short(told_raw(job, index)) == [("encode", 0, 0, "agreed", False)]
    second = Image.objects.get(job=job, index=1)
    assert {"of": "the first"} not in second.timeline["entries"]


def told_raw(job: Job, index: int):
    kept = Image.objects.get(job=job, index=index).timeline["checks"]
    return [{**one, "done_again": one["again"]} for one in kept]


@pytest.mark.django_db
def test_of_two_who_disagree_both_opinions_are_there(alice, bob, charlie):
    job = submit(alice)
    volunteer(bob).do_next()
    volunteer(charlie, lies=True).do_next()
    assert short(told(job))[0] == ("encode", 0, 0, "disputed", False)
    volunteer(alice).do_next()
    assert [one[3] for one in short(told(job))][:2] == ["disputed", "agreed"]


@pytest.mark.django_db
def test_checkers_are_named_when_their_rows_are_gone(alice, bob):
    job = submit(alice)
    tab, ours = volunteer(bob), server()
    work(tab, ours)
    before = told(job)
    Worker.objects.filter(pk=ours.id).delete()
    assert told(job) == before
    assert before[0]["checker"]["name"] == "server"


@pytest.mark.django_db
def test_the_admin_shows_checks_of_a_picture(alice, bob, admin_client):
    job = submit(alice)
    work(volunteer(bob), server())
    image = Image.objects.get(job=job)
    page = admin_client.get(f"/admin/queue/image/{image.pk}/change/").content.decode()
    assert "<td>agreed</td>" in page
    assert "<td>denoise 0.." in page
    assert "checked by" in page
