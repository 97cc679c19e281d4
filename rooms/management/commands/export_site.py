"""Writes the room page as static files: `manage.py export_site DIR --variant f16`."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from genqueue import choices
from genqueue.problems import Problem
from rooms.export import PUBLIC_RELAYS, Export, ExportError


class Command(BaseCommand):
    help = "Write the room page with a model as static files, for any host and below any path."
    requires_system_checks = ()  # no database

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, help="a new folder, or one of an earlier export")
        parser.add_argument("--model", help="by name; the site's default one otherwise")
        parser.add_argument(
            "--variant",
            action="append",
            help="a package of the model, such as f16 or int4-f16-f16; may be repeated. f16",
        )
        parser.add_argument(
            "--relay",
            action="append",
            help="a Nostr relay (wss://...) by which browsers find each other; may be repeated."
            " Public ones otherwise",
        )
        parser.add_argument(
            "--alone", action="store_true", help="no relay: a room stays in its browser"
        )
        parser.add_argument(
            "--packages-at",
            default="",
            help="the address of a folder with the packages; they are not copied then",
        )

        parser.add_argument(
            "--no-checks",
            action="store_true",
            help="rooms whose tabs are all one's own: nobody checks what others compute",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["folder"]
        try:
            export = Export(
                model=options["model"] or choices.default_model(),
                variants=options["variant"] or ["f16"],
                relays=() if options["alone"] else options["relay"] or PUBLIC_RELAYS,
                packages_at=options["packages_at"],
                spot_checks=not options["no_checks"],
            )
            written = export.write(folder)
        except (ExportError, Problem) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from error
        size = sum((folder / name).stat().st_size for name in written)
        self.stdout.write(
            f"{folder}: {len(written)} files, {size:,} bytes. Any static host will do."
        )
