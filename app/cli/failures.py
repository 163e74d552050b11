"""Expected failures as one message: the user's mistakes, missing extras, Ctrl-C."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distributions
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

import click

from selfrepair.warehouse.errors import SelfRepairError

EXTRAS = {
    "ingest": ("datasets", "einops", "huggingface_hub", "jaxtyping", "torch", "transformer_lens", "transformers"),
    "app": ("altair", "cachetools", "streamlit", "vl_convert"),
    "http": ("starlette", "uvicorn"),
    "mcp": ("mcp",),
    "ray": ("ray",),
}
"""Packages that only some commands need, by the extra that installs them."""

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, by the convention of shells: 128 + SIGINT."""


@contextmanager
def readable_failures(ctx: click.Context) -> Iterator[None]:
    """Turn expected exceptions into `Error: ...` and exit code 1, Ctrl-C into one line and exit code 130.

    The text of a KeyboardInterrupt, such as what is saved and how to resume, becomes its line.
    """
    try:
        yield
    except SelfRepairError as error:
        # names from a file that anybody may have made are in it: what acts on a terminal is shown
        from selfrepair.warehouse.cli.terminal import cell_text

        raise click.ClickException("\n".join(map(cell_text, str(error).split("\n")))) from error
    except ModuleNotFoundError as error:
        extra = extra_of(error.name or "")
        if extra is None:
            raise
        raise click.ClickException(
            f"this command needs the package '{error.name}', which is not installed. Install it: {install_line(extra)}"
        ) from error
    except RuntimeError as error:
        if not isinstance(error.__cause__, KeyboardInterrupt):  # DuckDB raises RuntimeError from it
            raise
        _exit_interrupted(ctx, error.__cause__)
    except KeyboardInterrupt as interrupt:
        _exit_interrupted(ctx, interrupt)


def extra_of(module: str) -> str | None:
    """Name of the extra that installs `module` (`torch` or `torch.nn`); None when no extra does."""
    package = module.partition(".")[0]
    return next((extra for extra, packages in EXTRAS.items() if package in packages), None)


def install_line(extra: str) -> str:
    """The pip command that adds an extra to this installation, from where it was installed: checkout, URL or index."""
    return _install_line(extra, _origin())


def _origin() -> dict[str, Any]:
    """The installation's direct_url.json (PEP 610); empty for a package from an index."""
    # A checkout that was installed has a second, older record beside its code: a folder *.egg-info without that file.
    texts = (found.read_text("direct_url.json") for found in distributions(name="selfrepair"))
    origin: dict[str, Any] = json.loads(next((text for text in texts if text), "{}"))
    return origin


def _install_line(extra: str, origin: dict[str, Any]) -> str:
    if not origin:
        return f"pip install 'selfrepair[{extra}]'"
    url = origin["url"]
    if "dir_info" in origin:
        editable = "-e " if origin["dir_info"].get("editable") else ""
        return f"pip install {editable}{shlex.quote(f'{unquote(urlsplit(url).path)}[{extra}]')}"
    if "vcs_info" in origin:
        url = f"{origin['vcs_info']['vcs']}+{url}@{origin['vcs_info']['commit_id']}"
    return f"pip install 'selfrepair[{extra}] @ {url}'"


def _exit_interrupted(ctx: click.Context, interrupt: KeyboardInterrupt) -> NoReturn:
    click.echo(f"\n{str(interrupt) or 'Interrupted.'}", err=True)
    ctx.exit(EXIT_INTERRUPTED)
