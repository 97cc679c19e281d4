"""Fetches a model from the Hub: `manage.py fetch_model Photoroom/prx-1024-t2i-beta --pack int8`."""

import shutil
import sys
from pathlib import Path
from typing import Any

from django.conf import settings as site
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from diffusion.packaging import hub
from diffusion.packaging.storage import DTYPES


class Command(BaseCommand):
    help = "Fetch a PRX model from the Hugging Face Hub; what an interrupted fetch had is used."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("repo", help="owner/name, such as Photoroom/prx-1024-t2i-beta")
        parser.add_argument("--revision", help="branch, tag or commit; by default the newest")
        parser.add_argument("--endpoint", help="another Hub than HF_ENDPOINT names")
        parser.add_argument(
            "--into",
            type=Path,
            default=site.MODEL_ROOTS[-1],
            help="folder of models; by default P2PWEB_MODELS_DIR, or models in the data folder",
        )
        parser.add_argument(
            "--pack", choices=DTYPES, action="append", default=[], help="pack it then, as this"
        )
        parser.add_argument("--dry-run", action="store_true", help="only say how large it is")

    def handle(self, *args: Any, **options: Any) -> None:
        root: Path = options["into"]
        try:
            snapshot = hub.look(options["repo"], options["revision"], options["endpoint"])
            root.mkdir(parents=True, exist_ok=True)
            missing = snapshot.missing_bytes(root)
            self.stdout.write(
                f"{snapshot.repo} at {snapshot.commit}: {len(snapshot.files)} files, "
                f"{_size(snapshot.nbytes)}; {_size(missing)} to fetch, "
                f"{_size(shutil.disk_usage(root).free)} free in {root}"
            )
            if options["dry_run"]:
                return
            with tqdm(
                total=snapshot.nbytes,
                initial=snapshot.nbytes - missing,
                desc=snapshot.name,
                unit="B",
                unit_scale=True,
                file=sys.stderr,
            ) as bar:
                folder = hub.fetch(snapshot, root, bar.update)
        except hub.HubError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from error
        except KeyboardInterrupt:
            raise CommandError(
                "Stopped. The same command goes on from here.", returncode=130
            ) from None
        self.stdout.write(str(folder))
        for dtype in options["pack"]:
            call_command("pack_model", str(folder), dtype=dtype, stdout=self.stdout)


def _size(count: int) -> str:
    """Such as 15.5 GB."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
