"""What the folders must never hold."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_queue_is_no_package_that_would_hide_pythons_own() -> None:
    assert not (ROOT / "queue" / "__init__.py").exists()
