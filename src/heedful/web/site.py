"""Where people reach the app, and what follows from it: which hosts and origins are ours, how the cookie is called."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from heedful.errors import SettingProblem

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True)
class Site:
    """The address that people type, e.g. ``https://labels.example.org``."""

    url: str

    def __post_init__(self) -> None:
        if not _is_origin(self.url):
            raise SettingProblem(f"the address is {self.url!r}", "Give it like https://labels.example.org, without anything behind it.")

    @property
    def secure(self) -> bool:
        """Whether everything travels encrypted; then the cookie never travels otherwise."""
        return self.url.startswith("https://")

    @property
    def hosts(self) -> frozenset[str]:
        """What a request may name as its host: others may come from a page that points its own name here."""
        return frozenset(urlsplit(origin).netloc for origin in self.origins)

    @property
    def origins(self) -> frozenset[str]:
        """Pages that may send something: our own. Loopback has several names."""
        parts = urlsplit(self.url)
        name = parts.netloc.removesuffix(f":{parts.port}")
        if name not in LOOPBACK:
            return frozenset({self.url})
        port = "" if parts.port is None else f":{parts.port}"
        return frozenset(f"{parts.scheme}://{other}{port}" for other in LOOPBACK)

    @property
    def cookie(self) -> str:
        """Browsers take a ``__Host-`` cookie only from this very host, and only encrypted."""
        return "__Host-heedful" if self.secure else "heedful"


def _is_origin(url: str) -> bool:
    """Whether an address names scheme and host, perhaps a port, and nothing behind."""
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and not (parts.path or parts.query or parts.username)
            and parts.port != 0
        )
    except ValueError:
        return False
