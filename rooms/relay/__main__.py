"""`python -m rooms.relay`: the relay by itself, for exported pages and for tests.

Pages that came by https may connect to wss: only (or to this very machine): then give it a
certificate, or put it behind a proxy that has one.
"""

import argparse
import asyncio
import logging
import signal
import ssl
import sys
from contextlib import suppress

from rooms.relay.bare import Bare, log
from rooms.relay.hub import Hub
from rooms.relay.limits import DEFAULT, Limits


def main() -> None:
    arguments = _arguments()
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    if not arguments.verbose:
        log.setLevel(logging.CRITICAL)
    try:
        asyncio.run(_serve(arguments))
    except OSError as error:
        sys.exit(f"The relay cannot start on {arguments.host}, port {arguments.port}: {error}")


async def _serve(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C is a KeyboardInterrupt there
            asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    limits = Limits(
        connections=arguments.connections, address_connections=arguments.connections_of_an_address
    )
    tls = None
    if arguments.certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(arguments.certificate, arguments.key)
    bare = Bare(Hub(limits), behind_proxy=arguments.behind_proxy)
    async with bare.listening(arguments.host, arguments.port, tls) as port:
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        print(f"Relay: {'wss' if tls else 'ws'}://{host}:{port}/", flush=True)  # noqa: T201
        await stopped.wait()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rooms.relay",
        description="A Nostr relay for signalling between browsers. docs/relay.md describes it.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=7447, help="0 is any that is free")
    parser.add_argument("--certificate", help="PEM file: serve wss: instead of ws:")
    parser.add_argument("--key", help="PEM file of its key, if that is not in the same one")
    parser.add_argument(
        "--behind-proxy",
        action="store_true",
        help="take clients' addresses from the last entry of X-Forwarded-For",
    )
    parser.add_argument("--connections", type=int, default=DEFAULT.connections)
    parser.add_argument(
        "--connections-of-an-address", type=int, default=DEFAULT.address_connections
    )
    parser.add_argument("--verbose", action="store_true", help="log every connection")
    return parser.parse_args()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
