"""`selfrepair app`: serve the pages on this machine."""

import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.options import db_option

HOME = Path(__file__).parent / "home.py"

_SETTINGS = {
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "runner.magicEnabled": "false",
    "server.fileWatcherType": "none",
    "server.headless": "true",
}


@click.command()
@db_option
@click.option("--port", default=8501, show_default=True, type=click.IntRange(1, 65535), help="Port to serve at.")
@click.option(
    "--host",
    default="localhost",
    show_default=True,
    help="Address to serve at. Anyone who reaches it can read the warehouse: there is no password.",
)
def app(db: Path, port: int, host: str) -> None:
    """Look at a warehouse in the browser.

    Serves until it is interrupted. The warehouse is only read, a moment at a time, so that it can be loaded meanwhile.
    """
    if find_spec("streamlit") is None:
        raise ModuleNotFoundError("No module named 'streamlit'", name="streamlit")
    _refuse_port_in_use(host, port)
    settings = {**_SETTINGS, "server.address": host, "server.port": str(port)}
    options = [f"--{name}={value}" for name, value in settings.items()]
    click.echo(f"{db} at http://{host}:{port} (Ctrl-C ends it)")
    with subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", str(HOME), *options],
        env={**os.environ, "SELFREPAIR_DB": str(db.absolute())},
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
    if process.returncode > 0:
        raise SelfRepairError(f"the server ended with code {process.returncode}; its message stands above.")


def _refuse_port_in_use(host: str, port: int) -> None:
    try:
        with socket.create_connection((host, port), timeout=0.5):
            pass
    except OSError:
        return
    raise SelfRepairError(f"port {port} of {host} is in use, perhaps by another selfrepair app. Try: --port {port + 1}")
