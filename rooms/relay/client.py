"""One connection: what it says, and what it is answered.

Trystero 0.25.4 leaves a relay for good when that sends CLOSED, or OK false with a reason that
begins otherwise than with `rate-limited:` or `duplicate:`, and throws at what is not JSON. So:

- `rate-limited:` says "later": Trystero waits a minute before it announces itself again.
- `duplicate:` says "there is no use in sending this again": events that are wrong, and those whose
  created_at is. Trystero goes on announcing itself every minute, and is heard as soon as its clock
  is right.
- Whatever is no event gets a NOTICE. So does a wrong clock, for people to read in the console.

Who says too much that is wrong or too much is closed.
"""

import json

from rooms.budget import Budget
from rooms.relay.events import RefusedError, SkewedError, event_id, read_event
from rooms.relay.filters import FilterError, read_filter
from rooms.relay.hub import Hub, Subscription
from rooms.relay.outbox import TOO_MUCH, Outbox


class CrowdedError(Exception):
    """There are too many connections, or too many new ones, from this address or at all."""


class RubbishError(Exception):
    """No message of the protocol. The text says why."""


class Client:
    """Call `receive` for each message and `leave` at the end; answers are put into the outbox.

    address: of the other end. Raises CrowdedError.
    """

    def __init__(self, hub: Hub, address: str, outbox: Outbox) -> None:
        home = hub.addresses.enter(address)
        if home is None:
            raise CrowdedError
        self._home = home
        self._hub = hub
        self._limits = limits = hub.limits
        self._outbox = outbox
        self._messages = Budget(limits.a_second, limits.burst)
        self._patience = Budget(limits.patience_a_second, limits.patience)
        self._subscriptions: dict[str, Subscription] = {}
        self._here = True

    def leave(self) -> None:
        """May be called again."""
        if not self._here:
            return
        self._here = False
        for subscription in self._subscriptions.values():
            self._hub.unsubscribe(subscription)
        self._subscriptions.clear()
        self._hub.addresses.leave(self._home)

    def receive(self, message: str | bytes) -> None:
        if not self._here or self._outbox.code is not None:
            return
        try:
            self._route(self._parsed(message))
        except RubbishError as error:
            self._notice(f"invalid: {error}")

    def _route(self, message: list[object]) -> None:
        match message:
            case ["EVENT", event]:
                self._event(event)
            case ["REQ", str(id_), *filters] if id_ and filters:
                self._request(id_, filters)
            case ["CLOSE", str(id_)]:
                self._close(id_)
            case _:
                raise RubbishError("a message is EVENT, REQ or CLOSE with its arguments")

    # What comes in -----------------------------------------------------------------------------
    def _parsed(self, message: str | bytes) -> list[object]:
        """Raises RubbishError."""
        if isinstance(message, bytes):
            raise RubbishError("messages are text")
        # Characters first: there is no need to encode what is too long anyway.
        most = self._limits.message_bytes
        if len(message) > most or len(message.encode(errors="replace")) > most:
            raise RubbishError(f"a message has at most {most} bytes")
        try:
            parsed = json.loads(message)
        except (ValueError, RecursionError):
            raise RubbishError("messages are JSON") from None
        if not isinstance(parsed, list):
            raise RubbishError("a message is a JSON array")
        return parsed

    def _event(self, value: object) -> None:
        """Raises RubbishError when there is no id that an answer could name."""
        id_ = event_id(value)
        if id_ is None:
            raise RubbishError("an event has an id of 64 lower-case hexadecimal digits")
        if not self._affordable():
            self._refuse(id_, "rate-limited: too many messages; try again in a minute")
        elif self._hub.knows(id_):
            self._answer("OK", id_, True, "duplicate: this event was here already")
        else:
            self._publish(id_, value)

    def _publish(self, id_: str, value: object) -> None:
        try:
            event = read_event(value, self._limits)
            event.check_clock(self._hub.now(), self._limits)
            event.verify()
        except SkewedError as error:
            self._answer("NOTICE", f"clock: {error}; is your clock right?")
            self._refuse(id_, f"duplicate: refused, {error}")
        except RefusedError as error:
            self._refuse(id_, f"duplicate: refused, {error}")
        else:
            self._answer("OK", id_, True, "")
            cost = self._hub.publish(event) * self._limits.listener_cost
            self._messages.spend(cost)
            self._home.messages.spend(cost)

    def _request(self, id_: str, filters: list[object]) -> None:
        """One that is refused gets its EOSE as well: there is nothing to wait for."""
        try:
            if not self._affordable():
                raise FilterError("too many messages; try again in a minute")
            if len(id_) > self._limits.subscription_characters:
                raise FilterError("the subscription id is too long")
            if len(filters) > self._limits.filters:
                raise FilterError(f"a subscription has at most {self._limits.filters} filters")
            new = id_ not in self._subscriptions
            if new and len(self._subscriptions) >= self._limits.subscriptions:
                raise FilterError(f"at most {self._limits.subscriptions} subscriptions are kept")
            read = [read_filter(filter_, self._limits) for filter_ in filters]
            subscription = Subscription(f'["EVENT",{json.dumps(id_)},', read, self._outbox)
            others = sum(s.values for name, s in self._subscriptions.items() if name != id_)
            if others + subscription.values > self._limits.values:
                raise FilterError(f"at most {self._limits.values} topics and others are kept")
        except FilterError as error:
            self._notice(f"not subscribed: {error}")
        else:
            self._close(id_)
            self._subscriptions[id_] = subscription
            self._hub.subscribe(subscription)
        self._answer("EOSE", id_)

    def _close(self, id_: str) -> None:
        subscription = self._subscriptions.pop(id_, None)
        if subscription is not None:
            self._hub.unsubscribe(subscription)

    # How much ----------------------------------------------------------------------------------
    def _affordable(self) -> bool:
        return self._messages.spend() and self._home.messages.spend()

    def _lose_patience(self) -> None:
        if not self._patience.spend():
            self._outbox.close(TOO_MUCH)

    # What goes out -----------------------------------------------------------------------------
    def _answer(self, *message: object) -> None:
        self._outbox.put(json.dumps(message, separators=(",", ":")))

    def _refuse(self, id_: str, reason: str) -> None:
        self._answer("OK", id_, False, reason)
        self._lose_patience()

    def _notice(self, reason: str) -> None:
        self._answer("NOTICE", reason)
        self._lose_patience()
