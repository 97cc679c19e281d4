"""Endless scenes for training: planned and tokenised in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import queue
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from .compose import Plan, plan
from .glyphs import Glyph
from .scenes import ScenePlanner

TEXT_TOKENS = 32


@dataclass(frozen=True)
class Batch:
    """Scenes as numbers with their captions as tokens: ids int64 [B, 32], lengths int64 [B]."""

    plan: Plan
    ids: np.ndarray
    lengths: np.ndarray


def tokenise(tokenizer: Tokenizer, captions: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Captions as right-padded ids and lengths.

    Raises ValueError where a caption has more than TEXT_TOKENS tokens.
    """
    ids = np.zeros((len(captions), TEXT_TOKENS), np.int64)
    lengths = np.zeros(len(captions), np.int64)
    for row, encoding in enumerate(tokenizer.encode_batch(captions)):
        if len(encoding.ids) > TEXT_TOKENS:
            raise ValueError(f"more than {TEXT_TOKENS} tokens: {captions[row]!r}")
        lengths[row] = len(encoding.ids)
        ids[row, : lengths[row]] = encoding.ids
    return ids, lengths


def _work(
    glyphs: list[Glyph],
    visible: np.ndarray,
    tokenizer_file: Path,
    seed: int,
    size: int,
    out: multiprocessing.Queue[Batch],
    stop: Event,
    training: int,
) -> None:
    """training: its process id, which a worker that is still starting when it is killed could not
    find out any more."""
    planner = ScenePlanner(glyphs, visible, seed)
    shade = np.random.default_rng(seed)
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    out.cancel_join_thread()  # at the end nobody may be there to take what is left

    def is_wanted() -> bool:
        """Not when the training was killed either, which then could not say so."""
        return not stop.is_set() and os.getppid() == training

    while is_wanted():
        scenes = [planner.any_scene() for _ in range(size)]
        captions = [scene.caption for scene in scenes]
        try:
            ids, lengths = tokenise(tokenizer, captions)
        except ValueError:
            continue  # a rare run of long names; the next scenes are as good
        batch = Batch(plan(scenes, shade), ids, lengths)
        while is_wanted():
            try:
                out.put(batch, timeout=1)
                break
            except queue.Full:
                continue


class Feed:
    """Batches of `size` scenes from `workers` processes. Start it before anything touches CUDA."""

    def __init__(
        self,
        glyphs: list[Glyph],
        visible: np.ndarray,
        tokenizer_file: Path,
        *,
        size: int,
        workers: int,
        seed: int,
    ) -> None:
        context = multiprocessing.get_context("fork")
        self._batches: multiprocessing.Queue[Batch] = context.Queue(maxsize=4 * workers)
        self._stop = context.Event()
        self._processes = [
            context.Process(
                target=_work,
                args=(glyphs, visible, tokenizer_file, seed * 1000 + index, size),
                kwargs={"out": self._batches, "stop": self._stop, "training": os.getpid()},
                daemon=True,
            )
            for index in range(workers)
        ]
        for process in self._processes:
            process.start()

    def next(self) -> Batch:
        """The next batch; waits where the workers are behind."""
        return self._batches.get(timeout=120)

    def close(self) -> None:
        """End the processes."""
        self._stop.set()
        for process in self._processes:
            process.terminate()
            process.join()
