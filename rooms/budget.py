"""How much one socket may send."""

import time


class Budget:
    """So much a second in the mean, and at most `burst` at once."""

    def __init__(self, a_second: float, burst: float) -> None:
        self.a_second = a_second
        self.burst = burst
        self._left = burst
        self._at = time.monotonic()

    def spend(self, amount: float = 1) -> bool:
        """False when it is used up."""
        now = time.monotonic()
        self._left = min(self.burst, self._left + (now - self._at) * self.a_second) - amount
        self._at = now
        return self._left >= 0
