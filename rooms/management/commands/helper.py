"""Lets this machine compute for a room: `manage.py helper https://.../rooms/kitchen/`.

A room of an exported page has no server: `manage.py helper https://.../room.html#kitchen` joins its
tabs, which needs aiortc.
"""

import signal
from functools import partial
from importlib import import_module
from typing import Any

from django.conf import settings as site
from django.core.management.base import BaseCommand, CommandError, CommandParser

from diffusion.backends import BACKEND_NAMES
from diffusion.backends.errors import BackendError
from diffusion.model_folder import ModelFolder, ModelFolderError, find_models
from genqueue.backends import open_backend
from genqueue.equipment import of_backend
from genqueue.helpers import LONGEST_NAME
from genqueue.identity import identity
from genqueue.management.arguments import model_named
from rooms.remote.address import NotLetInError, join, room_address
from rooms.remote.exported import (
    ExportedRoom,
    checked_relay,
    choose,
    exported_room,
    packages_of,
    relays_of,
)
from rooms.remote.helper import DismissedError, Helper, Models
from rooms.remote.line import Line

STUN = "stun.cloudflare.com:3478"  # as static/js/room/settings.js


class Command(BaseCommand):
    help = "Compute for a room of another site or of an exported page, without a browser."
    requires_system_checks = ()  # no database, no pages

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("room", metavar="ROOM_URL", help="the address of the room's page")
        parser.add_argument("--name", default="helper", help="what people there see it as")
        parser.add_argument(
            "--model", action="append", help="name or folder; may come several times (all of them)"
        )
        parser.add_argument("--backend", choices=BACKEND_NAMES, default=site.BACKEND)
        parser.add_argument(
            "--insecure", action="store_true",
            help="trust any certificate, such as that of `serve --lan`",
        )  # fmt: skip
        parser.add_argument(
            "--relay", action="append", default=[], metavar="WSS_URL",
            help="of an exported page's room: meet its tabs there (the page's own relays)",
        )  # fmt: skip
        parser.add_argument(
            "--stun", default=STUN, metavar="HOST:PORT",
            help=f"of an exported page's room: says how others see us ({STUN}); or `none`",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"]
        if not name.isprintable() or not 0 < len(name) <= LONGEST_NAME:
            raise CommandError(f"--name: one line of 1 to {LONGEST_NAME} characters")
        try:
            exported = exported_room(options["room"])
            if exported:
                _import_webrtc()
            address = None if exported else room_address(options["room"])
            folders = {identity(folder): folder for folder in _folders(options["model"])}
        except (ValueError, ModelFolderError) as error:
            raise CommandError(str(error)) from error
        models = Models(folders, partial(open_backend, name=options["backend"]))
        try:
            first = models.backend(next(iter(folders)))
            computes = of_backend(first)
            described = {
                "name": name,
                "device": computes.device,
                "software": computes.software,
                "variant": computes.stores,
                "models": sorted(folders),
            }
            if exported is not None:
                self._help_tabs(exported, models, options)
            else:
                assert address is not None
                verify = not options["insecure"]
                helper = Helper(
                    models,
                    partial(join, address, described, verify=verify),
                    partial(Line, verify=verify),
                    self.stdout.write,
                )
                self._run(helper, address.room)
        except (ModelFolderError, BackendError, NotLetInError, DismissedError) as error:
            raise CommandError(str(error)) from error
        finally:
            models.close()
        self.stdout.write("Left the room.")

    def _help_tabs(self, room: ExportedRoom, models: Models, options: dict[str, Any]) -> None:
        """A room without a server."""
        from rooms.remote.webrtc.line import Presence

        verify = not options["insecure"]
        packages = choose(packages_of(room.page, verify=verify), set(models.folders))
        relays = [checked_relay(relay) for relay in options["relay"]]
        presence = Presence(
            room.room,
            password=room.password,
            name=options["name"],
            relays=relays or relays_of(room.page, verify=verify),
            stun=[] if options["stun"] == "none" else [options["stun"]],
        )
        with presence:
            entry = presence.entry(packages)
            helper = Helper(models, lambda: entry, presence.connect, self.stdout.write)
            self._run(helper, room.room)

    def _run(self, helper: Helper[Any], room: str) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: helper.stop())
        computes = helper.models.equipment
        assert computes is not None, "the first model is open"
        self.stdout.write(f"Computing for {room} on {computes.device}. Ctrl-C leaves.")
        helper.run()


def _import_webrtc() -> None:
    """Before models are read: it takes no time to say that it is not there."""
    try:
        import_module("rooms.remote.webrtc.line")
    except ModuleNotFoundError as error:
        raise CommandError(
            "A room without a server needs aiortc: pip install -r requirements-webrtc.txt"
        ) from error


def _folders(named: list[str] | None) -> list[ModelFolder]:
    if named:
        return [model_named(name) for name in named]
    found = list(find_models(*site.MODEL_ROOTS).values())
    if not found:
        raise CommandError("There is no model on this machine: P2PWEB_MODELS_DIR names a folder.")
    return found
