import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

ONCE = """
from pathlib import Path

def test_of_a_busy_machine():
    tried = Path(__file__).with_name("tried")
    print("the page said: one moment")
    if not tried.exists():
        tried.touch()
        raise TimeoutError("Timeout 30000ms exceeded.")

def test_that_passes():
    print("nobody wants to know this")
"""


def test_a_run_says_why_the_first_try_failed(tmp_path: Path) -> None:
    (tmp_path / "test_once.py").write_text(ONCE)
    options = ["-p", "tests.first_tries", "-p", "no:django", "-p", "no:cacheprovider"]
    again = ["--reruns", "1", "--only-rerun", "Timeout", "-n", "1", "--rootdir", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "/dev/null", *options, *again, tmp_path],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    said = run.stdout.partition("first tries that failed")[2]
    assert "test_once.py::test_of_a_busy_machine" in said
    assert "TimeoutError: Timeout 30000ms exceeded." in said
    assert "the page said: one moment" in said
    assert "nobody wants to know this" not in said
