"""The labelling app: serving it."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from heedful.cli.common import warn
from heedful.cli.store import HERE, Where


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("label")(label)


def label(
    where: Where = HERE,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8000,
    url: Annotated[
        str | None, typer.Option(envvar="HEEDFUL_URL", show_envvar=True, help="Where people reach it, e.g. https://labels.example.org")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer; they share nothing but the store.")] = 1,
    invite_owner: Annotated[
        bool, typer.Option(help="Print a link for one more owner, say where the password of the only one is lost.")
    ] = False,
    proxy: Annotated[
        str | None,
        typer.Option(
            envvar="HEEDFUL_PROXY",
            show_envvar=True,
            help="The reverse proxy whose word on the visitor's address is taken, by its own address.",
        ),
    ] = None,
    oidc: Annotated[
        Path | None,
        typer.Option(envvar="HEEDFUL_OIDC", show_envvar=True, help="A file of providers by which people may sign in (docs/deploy.md)."),
    ] = None,
) -> None:
    """Serve the labelling app: people rank completions in their browser. The first time it prints a link to set it up."""
    import uvicorn

    from heedful.web.site import Site

    site = Site(url or _local(host, port))
    os.environ |= {"HEEDFUL_STORE": where, "HEEDFUL_URL": site.url}
    if oidc:
        _check_providers(oidc)
        os.environ["HEEDFUL_OIDC"] = str(oidc.resolve())
    _check_proxy(proxy, site.secure)
    _greet(where, site.url, invite_owner)
    uvicorn.run(
        "heedful.web.app:from_environment",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        access_log=False,  # addresses hold invitations
        server_header=False,
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy,
        log_level="warning",
        timeout_keep_alive=75,  # labelers read for a while; a new connection for every answer would cost them more
        timeout_graceful_shutdown=10,
    )


def _local(host: str, port: int) -> str:
    """The address on this machine; raises SettingProblem where others can reach it, who need to be told another."""
    from heedful.errors import SettingProblem
    from heedful.web.site import LOOPBACK

    name = f"[{host}]" if ":" in host else host
    if name not in LOOPBACK:
        raise SettingProblem(
            f"host {host!r} lets others reach the app, and nothing says under which address",
            "Name it: --url https://labels.example.org, with a reverse proxy that speaks TLS in front (docs/deploy.md).",
        )
    return f"http://{name}:{port}"


def _check_proxy(proxy: str | None, encrypted: bool) -> None:
    """Raise SettingProblem for a proxy that could never be recognised, or that everybody could be; warn where there must be one."""
    from ipaddress import ip_network

    from heedful.errors import SettingProblem

    for one in proxy.split(",") if proxy else []:
        try:
            everybody = ip_network(one.strip()).prefixlen == 0
        except ValueError:
            everybody = True
        if everybody:
            raise SettingProblem(f"the proxy is {one.strip()!r}", "Give the address that it calls from, e.g. --proxy 127.0.0.1")
    if encrypted and not proxy:
        warn("All visitors seem to come from the proxy, and are slowed down together when one guesses. Name it: --proxy 127.0.0.1")


def _check_providers(file: Path) -> None:
    """Raise FileProblem or SettingProblem now, not in every worker; the file holds secrets, so it should be the server's alone."""
    from heedful.web.oidc import providers

    providers.read(file)
    if providers.others_may_read(file):
        warn(f"{file} holds secrets, and everybody on this machine may read it. Say: chmod o-r {file}")


def _greet(where: str, url: str, invite_owner: bool) -> None:
    """Make the store if there is none, and say where to go; the first time with the link that sets everything up."""
    from heedful.store import Store, invitations

    with Store.open(where, create=True, actor="heed label", warn=warn) as store:
        secret = store.write(lambda c: invitations.make_first(c, store.clock()))
        if invite_owner and not secret:
            extra = store.write(lambda c: invitations.make(c, "owner", None, {}, None, store.clock(), timedelta(days=1)))
            typer.echo(f"This link makes one more owner; it works once, within a day:\n\n  {url}/join/{extra}\n")
    if url.startswith("http://") and "127.0.0.1" not in url and "localhost" not in url:
        warn(f"{url} is not encrypted: passwords and judgements can be read on the way. Use https.")
    if secret:
        typer.echo("Nobody is here yet. This link makes the first account, which owns everything; it works once, within a day:")
        typer.echo(f"\n  {url}/join/{secret}\n")
    typer.echo(f"Labelling at {url} (Ctrl-C to stop)")
