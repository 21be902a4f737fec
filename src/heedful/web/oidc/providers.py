"""Providers of sign-ins, out of a file of TOML that only the server reads: it holds a secret of each.

[university]
title = "Example University"
issuer = "https://login.example.org"
client_id = "heedful"
client_secret = "..."
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from heedful.errors import FileProblem, SettingProblem, nearest
from heedful.web.site import LOOPBACK

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider. ``name`` stands in addresses, ``title`` on buttons; ``hosts``: where it keeps what is not at its issuer's."""

    name: str
    title: str
    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise SettingProblem(f"a provider is called {self.name!r}", "Use at most 40 small letters, digits and hyphens.")
        for key in ("title", "issuer", "client_id", "client_secret"):
            value = getattr(self, key)
            if not isinstance(value, str) or not value.strip() or not value.isprintable():
                raise SettingProblem(f"the provider {self.name!r} has no usable {key}", f'Write {key} = "...".')
        if not isinstance(self.hosts, tuple) or not all(isinstance(host, str) for host in self.hosts):
            raise SettingProblem(f"the hosts of the provider {self.name!r} are no list of names", 'Write hosts = ["keys.example.org"].')
        if not self.takes(self.issuer) or urlsplit(self.issuer).query or len(self.issuer) > 500:
            raise SettingProblem(
                f"the issuer of {self.name!r} is {self.issuer[:200]!r}",
                "Give it as the provider does, https and all; http is for this machine.",
            )

    def takes(self, url: object) -> bool:
        """Whether an address is the provider's own: at its issuer's host or one of ``hosts``, and encrypted, but for this machine."""
        if not isinstance(url, str) or not url.isprintable() or " " in url:
            return False
        try:
            there, home = urlsplit(url), urlsplit(self.issuer)
        except ValueError:
            return False
        schemes = ("https", "http") if _is_local(home.netloc) and _is_local(there.netloc) else ("https",)
        return there.scheme in schemes and there.netloc in (home.netloc, *self.hosts) and there.netloc != "" and not there.fragment


def read(path: Path) -> dict[str, Provider]:
    """The providers of a file, by name. Raises FileProblem or SettingProblem, in which no secret stands."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileProblem(f"{path} cannot be read: {error.strerror}", "Check the path, and who may read it.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileProblem(f"{path} is not TOML: {error}", "Begin each provider with a line like [university].") from None
    return {name: _provider(name, table) for name, table in tables.items()}


def others_may_read(path: Path) -> bool:
    """Whether any account of this machine may read the file."""
    return bool(path.stat().st_mode & 0o004)


def _provider(name: str, table: Any) -> Provider:
    if not isinstance(table, Mapping):
        raise SettingProblem(f"{name} stands outside of every provider", "Begin each provider with a line like [university].")
    known = [one.name for one in fields(Provider) if one.name != "name"]
    if unknown := [key for key in table if key not in known]:
        raise SettingProblem(
            f"the provider {name!r} has the setting {unknown[0]!r}.{nearest(unknown[0], known)}", f"There are {', '.join(known)}."
        )
    given = {"title": name, "issuer": "", "client_id": "", "client_secret": "", **table}
    hosts = given.pop("hosts", [])
    return Provider(name, **given, hosts=tuple(hosts) if isinstance(hosts, list) else hosts)


def _is_local(netloc: str) -> bool:
    """Whether a host and port are this machine's own."""
    return re.sub(r":\d*$", "", netloc) in LOOPBACK
