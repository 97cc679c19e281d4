"""An exported site on a host that knows nothing but files: Python's http.server, below a path."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.test import override_settings

from diffusion.random_model import write_random_model

PATH = "some/where/"  # as a project page of GitHub's has it


class _Quiet(SimpleHTTPRequestHandler):
    def __init__(self, asked: list[str], *request: Any, **options: Any) -> None:
        self.asked = asked
        super().__init__(*request, **options)

    def parse_request(self) -> bool:
        found = super().parse_request()
        if found:
            self.asked.append(f"{self.requestline}\n{self.headers}")
        return found

    def log_message(self, *_: object) -> None:
        """pytest shows what failed."""


class StaticHost:
    """url: of the exported site, which ends with a slash. asked: each request with its headers."""

    def __init__(self, root: Path) -> None:
        self.folder = root / PATH
        self.asked: list[str] = []
        handler = partial(_Quiet, self.asked, directory=str(root))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/{PATH}"


@contextmanager
def exported(root: Path, *options: str) -> Iterator[StaticHost]:
    """The site of the settings, exported below `root` and served."""
    host = StaticHost(root)
    others = () if "--relay" in options else ("--alone",)
    call_command("export_site", str(host.folder), *options, *others, verbosity=0)
    thread = threading.Thread(target=host.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield host
    finally:
        host.server.shutdown()
        host.server.server_close()
        thread.join()


@contextmanager
def exported_tiny(root: Path, *options: str) -> Iterator[StaticHost]:
    """The same of a site whose only model has random weights, with its data below `root`."""
    write_random_model(root / "models/tiny")
    site = override_settings(MODEL_ROOTS=[root / "models"], DATA_DIR=root / "data")
    with site, exported(root / "host", *options) as host:
        yield host
