"""`geounet serve`, `geounet worker` and `geounet keys`."""

import ipaddress
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geounet.service.processes.crew import Crew, stop_without

if TYPE_CHECKING:
    from geounet.service.keys import KeyRing


APPLICATION = "api.main:app"
"""What uvicorn imports. A name, since `geounet` may not import `api`; a test says that it is there."""
PROTOCOL = "api.edge.connections:LimitedProtocol"
"""What speaks HTTP, with limits on what a connection may cost. Another such name."""

_OPEN_FILES = 65_536

Data = Annotated[
    Path | None, typer.Option("--data", help="Folder of everything the service keeps.", show_default="geounet-data")
]
Bundles = Annotated[Path | None, typer.Option(help="A folder of further model bundles.", show_default=False)]
KeepDays = Annotated[
    float | None, typer.Option("--keep", help="Days after which scenes and maps go.", show_default="for ever", min=0)
]
Device = Annotated[str | None, typer.Option(help="Where networks run: auto, cpu, cuda, mps.", show_default="auto")]

keys_app = typer.Typer(name="keys", help="Make, list and revoke the service's API keys.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(serve)
    app.command()(worker)
    app.add_typer(keys_app)


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; keys are required on any but loopback.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    data: Data = None,
    bundles: Bundles = None,
    root_path: Annotated[str, typer.Option(help="Path prefix that a proxy in front takes away.")] = "",
    public_url: Annotated[
        str | None, typer.Option(help="Address that clients know, behind a proxy; every link begins with it.")
    ] = None,
    keep: KeepDays = None,
    quota_gb: Annotated[float | None, typer.Option(help="Gigabytes that --data may hold.", min=0.001)] = None,
    device: Device = None,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1, max=64)] = 1,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Only the API; run `geounet worker` apart.")] = False,
) -> None:
    """Serve maps over HTTP: the API here, and a worker process beside it that is watched and restarted."""
    import uvicorn

    from geounet.service.logs import log_json

    _into_environment(data, bundles, keep, device)
    if quota_gb is not None:
        os.environ["GEOUNET_SERVICE_QUOTA"] = str(int(quota_gb * 1e9))
    if root_path:
        os.environ["GEOUNET_SERVICE_ROOT_PATH"] = "/" + root_path.strip("/")
    if public_url is not None:
        os.environ["GEOUNET_SERVICE_PUBLIC_URL"] = public_url
    if not is_loopback(host):
        os.environ["GEOUNET_SERVICE_REQUIRE_KEYS"] = "true"
    _refuse_without_keys()
    log_json()
    _tell_sandbox()
    _allow_files()
    crew = Crew(0 if no_worker else workers)
    crew.start()
    try:
        uvicorn.run(
            APPLICATION,
            http=PROTOCOL,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=10,
        )
    finally:
        crew.stop()


def worker(
    data: Data = None,
    bundles: Bundles = None,
    keep: KeepDays = None,
    device: Device = None,
    once: Annotated[bool, typer.Option("--once", help="Stop when the queue is empty.")] = False,
    follow: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Make the maps that are queued in a data folder, one at a time."""
    from geounet.service.logs import log_json
    from geounet.service.processes.worker import Worker
    from geounet.service.settings import ServiceSettings

    _into_environment(data, bundles, keep, device)
    log_json()
    if follow is None:
        _tell_sandbox()
    made = Worker(ServiceSettings())
    signal.signal(signal.SIGTERM, made.stop)
    signal.signal(signal.SIGINT, made.stop)
    if follow is not None:
        threading.Thread(target=stop_without, args=(follow,), daemon=True).start()
    made.run(once=once)


@keys_app.command("new")
def new_key(
    name: Annotated[str, typer.Argument(help="Who or what the key is for.")],
    scopes: Annotated[str, typer.Option(help="Any of read,submit,admin.")] = "read,submit",
    data: Data = None,
    max_gb: Annotated[float | None, typer.Option(help="Gigabytes that the key may hold.", min=0)] = None,
    max_gpx: Annotated[float | None, typer.Option(help="Gigapixels of scenes that the key may hold.", min=0)] = None,
    max_jobs: Annotated[int | None, typer.Option(help="Jobs that may be open at a time.", min=1)] = None,
) -> None:
    """Make a key and print it; it is shown this once."""
    from geounet.service.keys import Scope

    try:
        wanted = frozenset(Scope(s.strip()) for s in scopes.split(","))
    except ValueError:
        raise typer.BadParameter(f"'{scopes}': write any of read,submit,admin") from None
    _, text = _ring(data).create(
        name,
        wanted,
        max_bytes=None if max_gb is None else int(max_gb * 1e9),
        max_pixels=None if max_gpx is None else int(max_gpx * 1e9),
        max_open_jobs=max_jobs,
    )
    typer.echo(text)


@keys_app.command("list")
def list_keys(data: Data = None) -> None:
    """List the keys: id, scopes, name."""
    for key in _ring(data).all():
        typer.echo(f"{key.id}  {','.join(sorted(key.scopes))}  {key.name}")


@keys_app.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="The id, as `list` shows it.")], data: Data = None) -> None:
    """Make a key worthless from now on."""
    _ring(data).revoke(key_id)


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _tell_sandbox() -> None:
    """Log which layers of the sandbox hold on this machine. Raises SandboxError where all are required, one lacks."""
    import logging

    from geounet.service.processes.sandbox.kernel import probe
    from geounet.service.settings import ServiceSettings

    mode = ServiceSettings().sandbox
    held = probe(mode)
    told = "off, as set" if mode == "off" else str(held)
    log = logging.getLogger("geounet.cli.serve")
    log.log(logging.INFO if held.enough else logging.WARNING, "sandbox: %s", told)


def _into_environment(data: Path | None, bundles: Path | None, keep: float | None, device: str | None) -> None:
    """Options become environment variables: the API and the workers, other processes, read their settings there."""
    given = {"DATA": data and data.resolve(), "BUNDLES": bundles and bundles.resolve()}
    for name, value in {**given, "KEEP_DAYS": keep, "DEVICE": device}.items():
        if value is not None:
            os.environ[f"GEOUNET_SERVICE_{name}"] = str(value)


def _allow_files() -> None:
    """Let this process have as many files and connections open as the system grants."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _refuse_without_keys() -> None:
    from geounet.service.errors import UnauthenticatedError

    if os.environ.get("GEOUNET_SERVICE_REQUIRE_KEYS", "").lower() in ("true", "1") and not _ring(None).all():
        raise UnauthenticatedError(
            "an address that others can reach needs API keys, and there is none: make one with `geounet keys new NAME "
            "--data DIR`, or listen on 127.0.0.1"
        )


def _ring(data: Path | None) -> "KeyRing":
    from geounet.service.keys import KeyRing
    from geounet.service.settings import ServiceSettings
    from geounet.service.store import Store

    _into_environment(data, None, None, None)
    return KeyRing(Store(ServiceSettings()).database)


if __name__ == "__main__":
    commands = typer.Typer()
    register(commands)
    commands()
