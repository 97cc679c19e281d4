"""Makes pictures right here, without the queue: `manage.py generate "a snowman" --out a.png`."""

import re
import secrets
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings as site
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from diffusion.backends import BACKEND_NAMES
from diffusion.backends.errors import BackendError
from diffusion.model_folder import ModelFolder, ModelFolderError
from diffusion.pipeline import Picture, Progress, generate
from diffusion.settings import SEED_LIMIT, Settings, SettingsError, check
from genqueue.backends import open_backend
from genqueue.choices import limits
from genqueue.management.arguments import model_named


class Command(BaseCommand):
    help = "Make pictures from a prompt. Sizes, steps and guidance default to the model's own."
    requires_system_checks = ()  # no database, no pages

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prompt", help="what the picture shows")
        parser.add_argument("--negative-prompt", default="", help="what it should not show")
        parser.add_argument("--seed", type=int, help="0 to 2^32 - 1; random if left out")
        parser.add_argument("--steps", type=int, help="1 to 100")
        parser.add_argument("--guidance", type=float, help="1 (none) to 20")
        parser.add_argument("--width", type=int, help="pixels")
        parser.add_argument("--height", type=int, help="pixels")
        parser.add_argument("--num-images", type=int, default=1, help="1 to 16; seeds count on")
        parser.add_argument("--model", default=site.DEFAULT_MODEL, help="name or folder")
        parser.add_argument("--backend", choices=BACKEND_NAMES, default=site.BACKEND)
        parser.add_argument("--out", type=Path, help="PNG file; several get -0, -1, ... added")
        parser.add_argument("--latents-out", type=Path, help="NPY file: f32 [images, C, h, w]")

    def handle(self, *args: Any, **options: Any) -> None:
        folder = model_named(options["model"])
        wanted = _settings(folder, options)
        out = options["out"] or Path(f"{_file_stem(wanted.prompt)}-{wanted.seed}.png")
        if out.suffix.lower() != ".png":
            raise CommandError(f"--out must name a .png file, not {out.name}")
        for file in (out, options["latents_out"]):
            if file is not None and not file.absolute().parent.is_dir():
                raise CommandError(f"There is no folder {file.absolute().parent}")
        try:
            pictures = self._make(folder, wanted, options["backend"])
        except ModelFolderError as error:
            raise CommandError(f"{folder.path}: {error}") from error
        except BackendError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=130) from None
        try:
            self._write(pictures, out, options["latents_out"])
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from error

    def _make(self, folder: ModelFolder, wanted: Settings, backend_name: str) -> list[Picture]:
        if unknown := folder.unknown_words(wanted.prompt):
            self.stderr.write(f"Words this model does not know: {', '.join(unknown)}")
        with tqdm(
            total=wanted.steps * wanted.num_images, desc="loading", unit="step", file=sys.stderr
        ) as bar:
            backend = open_backend(folder, backend_name)
            bar.set_description(backend.device)

            def on_progress(progress: Progress) -> None:
                bar.update()

            with closing(backend):
                return generate(backend, wanted, on_progress)

    def _write(self, pictures: list[Picture], out: Path, latents_out: Path | None) -> None:
        for number, picture in enumerate(pictures):
            file = out if len(pictures) == 1 else out.with_stem(f"{out.stem}-{number}")
            file.write_bytes(picture.png())
            self.stdout.write(f"{file}  (seed {picture.settings.seed})")
        if latents_out is not None:
            with latents_out.open("wb") as stream:  # numpy would add .npy to another name
                np.save(stream, np.stack([picture.latent for picture in pictures]))
            self.stdout.write(str(latents_out))


def _settings(folder: ModelFolder, options: dict[str, Any]) -> Settings:
    def given(name: str, default: Any) -> Any:
        return default if options[name] is None else options[name]

    wanted = Settings(
        prompt=options["prompt"],
        negative_prompt=options["negative_prompt"],
        model=folder.name,
        width=given("width", folder.default_width),
        height=given("height", folder.default_height),
        steps=given("steps", folder.default_steps),
        guidance=given("guidance", folder.default_guidance),
        seed=given("seed", secrets.randbelow(SEED_LIMIT)),
        num_images=options["num_images"],
    )
    try:
        check(wanted, folder, limits())
    except SettingsError as error:
        raise CommandError(str(error)) from error
    return wanted


def _file_stem(prompt: str) -> str:
    words = re.findall(r"[a-z0-9]+", prompt.lower())
    return "-".join(words)[:60].rstrip("-") or "picture"
