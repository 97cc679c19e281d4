"""What the environment may say, and how it is refused."""

from datetime import timedelta
from pathlib import Path

import pytest

from p2pweb import environment

BASE, DATA = Path("/srv/site"), Path("/srv/data")


@pytest.mark.parametrize("value", ["-1", "36501", "soon"])
def test_a_wrong_number_of_days_names_its_variable(monkeypatch, value):
    monkeypatch.setenv("P2PWEB_KEEP_PICTURES_DAYS", value)
    with pytest.raises(ValueError, match="P2PWEB_KEEP_PICTURES_DAYS"):
        environment.days("P2PWEB_KEEP_PICTURES_DAYS", 0)


def test_days_are_days_and_zero_is_for_ever(monkeypatch):
    assert environment.days("P2PWEB_KEEP_PICTURES_DAYS", 3) == timedelta(days=3)
    monkeypatch.setenv("P2PWEB_KEEP_PICTURES_DAYS", "0")
    assert environment.days("P2PWEB_KEEP_PICTURES_DAYS", 3) is None


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("", "sqlite:////srv/data/p2pweb.sqlite3"),
        ("sqlite:////var/lib/p2pweb.sqlite3", "sqlite:////var/lib/p2pweb.sqlite3"),
        ("sqlite:///queue.sqlite3", "sqlite:////srv/site/queue.sqlite3"),
        ("postgresql://me@host/p2pweb", "postgresql://me@host/p2pweb"),
        ("postgres://me@host/p2pweb", "postgres://me@host/p2pweb"),
    ],
)
def test_the_database_is_a_file_with_a_whole_path_or_postgresql(monkeypatch, given, url):
    monkeypatch.setenv("DATABASE_URL", given)
    assert environment.database_url(BASE, DATA) == url


@pytest.mark.parametrize(
    "given", ["mysql://me@host/p2pweb", "sqlite://", "sqlite:///", "sqlite:///:memory:", "a.db"]
)
def test_other_databases_are_refused_by_name_of_the_variable(monkeypatch, given):
    monkeypatch.setenv("DATABASE_URL", given)
    with pytest.raises(ValueError, match="DATABASE_URL"):
        environment.database_url(BASE, DATA)


def test_a_folder_counts_from_where_the_process_was_started(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("P2PWEB_MODELS_DIR", "mine")
    assert environment.folder("P2PWEB_MODELS_DIR") == tmp_path / "mine"
    monkeypatch.setenv("P2PWEB_MODELS_DIR", " ")
    assert environment.folder("P2PWEB_MODELS_DIR") is None
