"""How refusals are said (RFC 9457)."""

import json

from genqueue.problems import Problem, not_found, problem_response


def test_a_problem_carries_its_policy():
    problem = Problem("room-full", 429, "Full.", headers={"Retry-After": "3"}, limit=100)
    response = problem_response(problem)
    assert response.status_code == 429
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Retry-After"] == "3"
    assert response.headers["Cache-Control"] == "no-store"
    assert json.loads(response.content) == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "Full.",
        "code": "room-full",
        "limit": 100,
    }


def test_the_wrong_field_is_named():
    problem = Problem("steps-out-of-range", 422, "Too many.", field="steps")
    assert json.loads(problem_response(problem).content)["field"] == "steps"


def test_half_a_surrogate_pair_can_be_said():
    assert b"\\ud800" in problem_response(Problem("x", 422, "\ud800")).content


def test_the_exceptions_text_is_for_people():
    assert str(not_found("There is no such job.")) == "There is no such job."
    assert not_found("x").status == 404
