"""How much everybody at one network address does together."""

import time
from collections import OrderedDict

from genqueue.networks import network_of
from rooms.budget import Budget
from rooms.relay.limits import Limits


class Household:
    """connections: those that are open now."""

    def __init__(self, network: str, limits: Limits) -> None:
        self.network = network
        self.connections = 0
        self.messages = Budget(limits.address_a_second, limits.address_burst)


class Addresses:
    """Households of open connections, and of those closed so lately that their budget tells."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._present: dict[str, Household] = {}
        self._left: OrderedDict[str, tuple[float, Household]] = OrderedDict()  # the first one first
        self._refilled_after = limits.address_burst / limits.address_a_second
        self.connections = 0

    def enter(self, address: str) -> Household | None:
        """None when no more connections are taken, from there or at all."""
        self._forget()
        network = network_of(address)
        home = self._present.get(network)
        if home is None:
            _, home = self._left.pop(network, (0.0, None))
            home = home or Household(network, self._limits)
        full = (
            self.connections >= self._limits.connections
            or home.connections >= self._limits.address_connections
        )
        if full or not home.messages.spend(self._limits.connection_cost):
            if not home.connections:
                self._left[network] = (time.monotonic(), home)
            return None
        home.connections += 1
        self.connections += 1
        self._present[network] = home
        return home

    def leave(self, home: Household) -> None:
        home.connections -= 1
        self.connections -= 1
        if not home.connections:
            del self._present[home.network]
            self._left[home.network] = (time.monotonic(), home)

    def _forget(self) -> None:
        before = time.monotonic() - self._refilled_after
        while self._left and next(iter(self._left.values()))[0] < before:
            self._left.popitem(last=False)
