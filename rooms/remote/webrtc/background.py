"""An event loop in a thread of its own, for callers that wait."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, Final, Self, TypeVar

T = TypeVar("T")
STOPS_WITHIN_SECONDS: Final = 10.0


class Background:
    """Use as a context manager; at its end what still runs is cancelled, and has ended."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(TimeoutError, CancelledError):
            self.run(self._cancel_all(), STOPS_WITHIN_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T], seconds: float | None = None) -> T:
        """What it returns or raises, or TimeoutError. From other threads only."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise

    def call(self, function: Callable[[], T], seconds: float | None = None) -> T:
        """Inside the loop."""

        async def called() -> T:
            return function()

        return self.run(called(), seconds)

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Goes on until it ends by itself or is stopped."""
        return self.call(lambda: asyncio.ensure_future(work))

    def stop(self, task: "asyncio.Task[None]") -> None:
        """Cancels it and waits until it has put away what it had."""
        self.run(_ended([task]), STOPS_WITHIN_SECONDS)

    async def _cancel_all(self) -> None:
        own = asyncio.current_task()
        await _ended([task for task in asyncio.all_tasks() if task is not own])


async def _ended(tasks: list["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
