"""Makes a package that browsers can load: `manage.py pack_model prx-emoji --dtype int8`."""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from diffusion.model_folder import ModelFolderError
from diffusion.packaging.manifest import variant_name
from diffusion.packaging.pack import Packed, Report
from diffusion.packaging.source import COMPONENTS
from diffusion.packaging.storage import DTYPES
from genqueue import choices, packages, references
from genqueue.management.arguments import model_named


class Command(BaseCommand):
    help = "Pack a model for browsers: a manifest and shards of at most 16 MiB."
    requires_system_checks = ()  # no database, no pages

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model", help="name or folder")
        parser.add_argument("--dtype", choices=DTYPES, default="f16", help="of all parts")
        for component in COMPONENTS:
            option = f"--{component.replace('_', '-')}-dtype"
            parser.add_argument(option, choices=DTYPES, help="of this part, instead")
        parser.add_argument(
            "--out", type=Path, help="a folder for the package; by default where this site serves"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        model = model_named(options["model"])
        dtypes = {part: options[f"{part}_dtype"] or options["dtype"] for part in COMPONENTS}
        name = options["model"] if options["model"] in choices.models() else model.name
        out = options["out"] or packages.place(name, variant_name(dtypes))
        try:
            with tqdm(unit="", unit_scale=True, file=sys.stderr) as bar:
                if options["out"]:
                    packed = packages.pack(model, out, dtypes, shown_on(bar))
                else:
                    packed = packages.make(name, model, dtypes, shown_on(bar))
                    if packed.manifest.plan is not None:
                        references.make(name, model, packed.manifest.model_id)
        except (ModelFolderError, FileExistsError) as error:
            raise CommandError(f"{model.path}: {error}") from error
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from error
        except KeyboardInterrupt:
            raise CommandError("Stopped; nothing is left behind.", returncode=130) from None
        self.stdout.write(summary(out, packed))


def shown_on(bar: Any) -> Report:
    """Shows reading and packing one after the other."""

    def report(what: str, done: int, total: int) -> None:
        if what != bar.desc.removesuffix(": "):
            bar.reset(total)
            bar.set_description(what)
        bar.update(done - bar.n)

    return report


def summary(out: Path, packed: Packed) -> str:
    manifest = packed.manifest
    return (
        f"{out}\n"
        f"  {manifest.variant}, {manifest.nbytes:,} bytes in {len(manifest.shards)} shards\n"
        f"  package {packed.package_id}\n"
        f"  model   {manifest.model_id}"
    )
