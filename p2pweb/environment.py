"""What the environment says, read once by the settings."""

import os
import secrets
from datetime import timedelta
from pathlib import Path

from rooms.ice import Ice, ice
from rooms.policy import is_socket


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def number(name: str, default: int) -> int:
    """Raises ValueError naming the variable when its value is not a whole number."""
    value = text(name)
    try:
        return int(value) if value else default
    except ValueError:
        raise ValueError(f"{name} must be a whole number, not {value!r}") from None


def days(name: str, default: int) -> timedelta | None:
    """How long something is kept; None, written 0, is for ever. Raises ValueError beyond it."""
    value = number(name, default)
    if not 0 <= value <= 36_500:
        raise ValueError(f"{name} must be between 0 (for ever) and 36500 days, not {value}")
    return timedelta(days=value) if value else None


def flag(name: str, default: bool = False) -> bool:
    value = text(name).lower()
    return value in {"1", "true", "yes", "on"} if value else default


def words(name: str, default: str = "") -> list[str]:
    """A list separated by commas."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def sockets(name: str) -> list[str]:
    """Addresses of WebSockets, separated by commas. Raises ValueError for what is none."""
    addresses = words(name)
    for address in addresses:
        if not is_socket(address):
            raise ValueError(f"{name}: {address!r} does not begin with wss:// or ws:// and a host")
    return addresses


def ice_servers() -> Ice:
    """Where tabs of the site learn their address, and what passes on what they cannot send each
    other. Raises ValueError naming the variable that is not right."""
    return ice(
        words("P2PWEB_STUN_SERVERS"),
        words("P2PWEB_TURN_SERVERS"),
        username=text("P2PWEB_TURN_USERNAME"),
        credential=text("P2PWEB_TURN_PASSWORD"),
        relay_only=flag("P2PWEB_RELAY_ONLY"),
    )


def database_url(base_dir: Path, data_dir: Path) -> str:
    """`postgresql://...`, or `sqlite:///` and a whole path: by default a file in the data folder.

    A relative path counts from the project, wherever a process was started. Raises ValueError for
    other databases: the queue knows what these two lock.
    """
    url = text("DATABASE_URL")
    if url.startswith(("postgres://", "postgresql://")):
        return url
    path = url.removeprefix("sqlite:///") if url else str(data_dir / "p2pweb.sqlite3")
    if not path or path == url or ":memory:" in path:
        raise ValueError("DATABASE_URL must be postgresql://... or sqlite:/// and a file's path")
    return f"sqlite:///{(base_dir / path).resolve()}"


def folder(name: str) -> Path | None:
    """A whole path; a relative one counts from where this process was started."""
    value = text(name)
    return Path(value).resolve() if value else None


def secret_key(data_dir: Path) -> str:
    """SECRET_KEY, or one made on first use and kept in the data folder, readable by us alone.

    Several processes may start at once: whoever links the file first decides, the others read it.
    """
    given = text("SECRET_KEY")
    if given:
        return given
    path = data_dir / "secret-key"
    if not path.exists():
        draft = data_dir / f".secret-key-{secrets.token_hex(8)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(50))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was first
        finally:
            draft.unlink()
    return path.read_text().strip()
