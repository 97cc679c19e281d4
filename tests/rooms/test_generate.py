"""POST /rooms/{room}/: asking for pictures, with htmx and without JavaScript."""

import re

import pytest

from genqueue.models import Job, RemovedClient
from tests.studio import MODEL_FILES, write_model

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}
ASKED = {
    "prompt": "a rocket", "negative_prompt": "", "model": "tiny", "size": "128x64",
    "steps": "4", "guidance": "2.5", "seed": "9", "num_images": "2",
}  # fmt: skip


def test_without_javascript_the_form_adds_a_job_and_goes_back_to_the_room(alice):
    answer = alice.browser.post("/rooms/kitchen/", ASKED)
    assert (answer.status_code, answer.url) == (303, "/rooms/kitchen/")
    job = Job.objects.get()
    assert (job.width, job.height, job.steps, job.guidance) == (128, 64, 4, 2.5)
    assert (job.seed, job.num_images, job.client) == (9, 2, alice.client_id)
    assert "a rocket" in alice.browser.get("/rooms/kitchen/").content.decode()


def test_with_htmx_the_form_and_the_queue_come_back(alice):
    answer = alice.browser.post("/rooms/kitchen/", ASKED, headers=HTMX)
    page = answer.content.decode()
    assert answer.status_code == 201
    assert "<html" not in page
    assert f'id="job-{Job.objects.get().pk}"' in page


def test_what_is_left_empty_is_the_default_of_the_model_and_the_seed_is_random(alice):
    empty = dict.fromkeys(ASKED, "") | {"prompt": "a rocket"}
    alice.browser.post("/rooms/kitchen/", empty)
    alice.browser.post("/rooms/kitchen/", empty)
    first, second = Job.objects.all()
    assert (first.width, first.steps, first.guidance, first.num_images) == (256, 8, 4.0, 1)
    assert first.seed != second.seed


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("prompt", "  ", "empty"),
        ("prompt", "画", "cleaning"),
        ("prompt", "x" * 2001, "2001"),
        ("size", "100x100", "multiple"),
        ("size", "4096x64", "between"),
        ("size", "big", "two whole numbers"),
        ("steps", "0", "between"),
        ("steps", "many", "whole number"),
        ("steps", "9" * 30, "whole number"),
        ("guidance", "0.5", "between"),
        ("guidance", "nan", "between"),
        ("guidance", "much", "number"),
        ("seed", "-1", "between"),
        ("seed", str(2**32), "between"),
        ("num_images", "17", "between"),
        ("model", "nope", "no such model"),
    ],
)
@pytest.mark.parametrize("headers", [HTMX, {}], ids=["htmx", "plain"])
def test_a_refusal_is_said_next_to_its_field_and_nothing_typed_is_lost(
    alice, field, typed, said, headers
):
    answer = alice.browser.post("/rooms/kitchen/", ASKED | {field: typed}, headers=headers)
    page = answer.content.decode()
    assert answer.status_code == 422
    start = page.index(f'id="error-{field}"')
    assert said in page[start : page.index("</p>", start)]
    assert page.count('class="error" role="alert"></p>') == 1
    assert "a rocket" in page or field == "prompt"
    assert not Job.objects.exists()


@pytest.mark.parametrize("headers", [HTMX, {}], ids=["htmx", "plain"])
def test_everything_that_is_wrong_is_said_at_once_each_next_to_its_field(alice, headers):
    wrong = {
        "prompt": ("", "empty"), "negative_prompt": ("x" * 2001, "2001"),
        "size": ("40x90", "width"),
        "steps": ("many", "whole number"), "guidance": ("99", "between 1 and 20"),
        "seed": ("-1", "between 0 and"), "num_images": ("0", "between 1 and 16"),
    }  # fmt: skip
    typed = {field: value for field, (value, _said) in wrong.items()}
    answer = alice.browser.post("/rooms/kitchen/", ASKED | typed, headers=headers)
    page = answer.content.decode()
    assert answer.status_code == 422
    for field, (_value, said) in wrong.items():
        start = page.index(f'id="error-{field}"')
        assert said in page[start : page.index("</p>", start)], field
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("native", "smallest", "largest", "squares"),
    [
        (256, 64, 512, [64, 128, 192, 256, 384, 512]),
        (128, 64, 256, [64, 96, 128, 192, 256]),
        (1024, 256, 2048, [256, 512, 768, 1024, 1536, 2048]),
        (256, 256, 256, [256]),
        (512, 112, 560, [112, 128, 256, 384, 512, 560]),
    ],
)
def test_sizes_from_the_smallest_to_the_largest_are_offered_and_all_are_allowed(
    alice, settings, tmp_path, native, smallest, largest, squares
):
    about = {"default_width": native, "default_height": native}
    about |= {"min_side": smallest, "max_side": largest}
    write_model(tmp_path / "sized", "sized", MODEL_FILES | {"p2pweb.json": about})
    settings.MODEL_ROOTS = [tmp_path / "sized"]
    page = alice.browser.get("/rooms/kitchen/").content.decode()
    menu = page[page.index('<select id="size"') : page.index("</select>")]
    values = re.findall(r'<option value="(\d+)x(\d+)"', menu)
    sides = [(int(width), int(height)) for width, height in values]
    assert [width for width, height in sides if width == height] == squares
    assert f'value="{native}x{native}" selected' in menu
    assert len(sides) == len(set(sides)) <= 12
    settings.P2PWEB_LIMITS = settings.P2PWEB_LIMITS | {"client_jobs": 99}
    for width, height in sides:
        asked = ASKED | {"model": "sized", "size": f"{width}x{height}"}
        assert alice.browser.post("/rooms/kitchen/", asked).status_code == 303, (width, height)


def test_a_full_queue_is_429_and_says_the_limit(alice, settings):
    settings.P2PWEB_LIMITS = settings.P2PWEB_LIMITS | {"client_jobs": 1}
    alice.browser.post("/rooms/kitchen/", ASKED)
    answer = alice.browser.post("/rooms/kitchen/", ASKED, headers=HTMX)
    assert answer.status_code == 429
    assert "at most 1" in answer.content.decode()


def test_a_removed_client_is_told_so(alice, bob, kitchen):
    RemovedClient.objects.create(room_id=kitchen, label=bob.label)
    answer = bob.browser.post(f"/rooms/{kitchen}/", ASKED, headers=HTMX)
    assert answer.status_code == 403
    assert "removed you" in answer.content.decode()


def test_without_the_csrf_token_nothing_happens():
    from django.test import Client

    strict = Client(enforce_csrf_checks=True)
    answer = strict.post("/rooms/kitchen/", ASKED)
    assert answer.status_code == 403
    assert "That form was too old" in answer.content.decode()
    assert not Job.objects.exists()


def test_a_server_without_a_model_still_shows_the_room(alice, settings, tmp_path):
    settings.MODEL_ROOTS = [tmp_path / "nothing"]
    assert "no model" in alice.browser.get("/rooms/kitchen/").content.decode()
    answer = alice.browser.post("/rooms/kitchen/", ASKED, headers=HTMX)
    assert answer.status_code in (422, 503)


def test_an_example_and_a_picture_fill_the_form(alice, studio):
    job = studio.made("kitchen", alice, "a snowman", seed=41, steps=5)
    example = alice.browser.get("/rooms/kitchen/", {"prompt": "a <b> & c"}).content.decode()
    assert ">a &lt;b&gt; &amp; c</textarea>" in example
    like = alice.browser.get("/rooms/kitchen/", {"like": f"{job.pk}/0"}).content.decode()
    assert ">a snowman</textarea>" in like
    assert 'value="41"' in like
    elsewhere = alice.browser.get("/rooms/den/", {"like": f"{job.pk}/0"})
    assert elsewhere.status_code == 404


def test_no_client_id_is_ever_on_a_page_and_every_prompt_is_only_text(alice, bob, studio):
    studio.made("kitchen", bob, "<img src=x onerror=alert(1)>")
    studio.ask("kitchen", bob, "<script>alert(2)</script>")
    page = alice.browser.get("/rooms/kitchen/").content.decode()
    assert "<img src=x" not in page
    assert "<script>alert" not in page
    assert bob.client_id not in page
    assert alice.client_id not in page
    assert bob.label[:6] in page


def test_pages_allow_no_inline_script_but_the_import_map_and_have_no_inline_style(alice, studio):
    studio.made("kitchen", alice)
    for path in ("/", "/rooms/kitchen/", "/stats/", "/nowhere/"):
        answer = alice.browser.get(path)
        page = answer.content.decode()
        policy = answer.headers["Content-Security-Policy"]
        assert "style-src 'self';" in policy
        assert "unsafe" not in policy.replace("'wasm-unsafe-eval'", "")
        assert " style=" not in page
        assert "<style" not in page
        inline = [part for part in page.split("<script")[1:] if " src=" not in part.split(">")[0]]
        assert all('type="importmap" nonce="' in part.split(">")[0] for part in inline)


@pytest.mark.parametrize(
    ("room_id", "name"), [("tuesday-lunch", "Room tuesday-lunch"), ("x" * 22, "Room xxxxxxxx")]
)
def test_an_id_that_people_chose_is_shown_whole_and_a_random_one_shortened(alice, room_id, name):
    assert (
        f'<h1 class="unseen">{name}</h1>'
        in alice.browser.get(f"/rooms/{room_id}/").content.decode()
    )
