"""Processes that make scenes: they go with the training, however that ends."""

import signal
import subprocess
import sys
import time

import pytest

from tests.genqueue.processes import ROOT, alive

TRAINING = """
import multiprocessing, time
from pathlib import Path
from diffusion.training import feed, glyphs, scenes
known, atlas = glyphs.load(Path(glyphs.__file__).parent / "reference")
tokenizer = Path("models/prx-emoji/tokenizer/tokenizer.json")
feeding = feed.Feed(known, scenes.visibility(atlas), tokenizer, size=4, workers=2, seed=1)
feeding.next()
print(*(process.pid for process in multiprocessing.active_children()), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_they_end_when_the_training_is_killed(how: signal.Signals) -> None:
    training = subprocess.Popen(
        [sys.executable, "-c", TRAINING],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "queue")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert training.stdout is not None
    feeding = [int(pid) for pid in training.stdout.readline().split()]
    assert len(feeding) == 2
    training.send_signal(how)  # one of them may be starting yet
    training.wait()
    until = time.monotonic() + 20
    while any(map(alive, feeding)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(alive, feeding))
    training.stdout.close()
