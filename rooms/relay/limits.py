"""How much a relay takes. Trystero 0.25.4 stays far below all of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    # One message. The longest REQ of Trystero has 250 topics of at most 40 characters: 13 kB; the
    # longest event seen has 1,455 bytes.
    message_bytes: int = 65_536
    content_bytes: int = 16_384
    tags: int = 16
    tag_characters: int = 256  # each element of a tag
    clock_seconds: int = 60  # that created_at may differ from our clock

    # One connection's subscriptions
    subscriptions: int = 32
    subscription_characters: int = 64
    filters: int = 8  # in one subscription
    filter_values: int = 250  # in one member of a filter: Trystero's topics in one REQ
    values: int = 2000  # in all of them together

    # Rates, in messages. Joining a room of 64 costs a tab, at once, an offer or an answer for each
    # of the others, and as many more as it has network addresses (candidates).
    a_second: int = 20  # in the mean
    burst: int = 2000
    address_a_second: int = 200
    address_burst: int = 20_000
    connection_cost: int = 10  # of the address's
    listener_cost: float = 0.25  # of an event, for each that it is passed on to

    # What is wrong or too much; then the connection is closed
    patience: int = 60
    patience_a_second: float = 0.5

    # Waiting for one client that reads slowly; then it is dropped
    waiting_messages: int = 2000
    waiting_bytes: int = 1_048_576

    connections: int = 5000  # of this process
    address_connections: int = 256
    remembered_ids: int = 50_000  # of events, to pass none on twice


DEFAULT = Limits()
