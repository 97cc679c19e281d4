"""What may be lost must not be waited for: after a failure it is not tried again for a while."""

import logging
import time

log = logging.getLogger(__name__)

# Less than a sweep, which then sends again what was lost.
PAUSE_SECONDS = 4.0


class Breaker:
    """Of one service, for all threads of this process. It logs when the service fails and when it
    is back, not every time in between."""

    def __init__(self, service: str) -> None:
        self.service = service
        self._failing = False
        self._paused_until = 0.0

    @property
    def paused(self) -> bool:
        """True: do not even try."""
        return time.monotonic() < self._paused_until

    def failed(self, error: BaseException) -> None:
        self._paused_until = time.monotonic() + PAUSE_SECONDS
        if not self._failing:
            self._failing = True
            log.warning("%s does not answer (%s): hints are lost", self.service, error)

    def worked(self) -> None:
        if self._failing:
            self._failing = False
            log.warning("%s answers again", self.service)
