"""What goes wrong and is no bug, said in one message: the user's mistakes, missing extras, Ctrl-C."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

from selfrepair.warehouse.errors import SelfRepairError

EXTRAS = {
    "ingest": ("datasets", "einops", "huggingface_hub", "jaxtyping", "torch", "transformer_lens", "transformers"),
    "app": ("altair", "streamlit", "vl_convert"),
}
"""Packages that only some commands need, by the extra that installs them."""

EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""


@contextmanager
def readable_failures(ctx: click.Context) -> Iterator[None]:
    """Turn expected exceptions into `Error: ...` and exit code 1, Ctrl-C into one line and exit code 130.

    A KeyboardInterrupt that was raised with a text, such as what is safe and how to go on, has that for its line.
    """
    try:
        yield
    except SelfRepairError as error:
        raise click.ClickException(str(error)) from error
    except ModuleNotFoundError as error:
        extra = extra_of(error.name or "")
        if extra is None:
            raise
        raise click.ClickException(
            f"this command needs the package '{error.name}', which is not installed. "
            f"Install it: pip install 'selfrepair[{extra}]'"
        ) from error
    except RuntimeError as error:
        if not isinstance(error.__cause__, KeyboardInterrupt):  # which is how DuckDB says it
            raise
        _exit_interrupted(ctx, error.__cause__)
    except KeyboardInterrupt as interrupt:
        _exit_interrupted(ctx, interrupt)


def extra_of(module: str) -> str | None:
    """Name of the extra that installs `module` (`torch` or `torch.nn`); None when no extra does."""
    package = module.partition(".")[0]
    return next((extra for extra, packages in EXTRAS.items() if package in packages), None)


def _exit_interrupted(ctx: click.Context, interrupt: KeyboardInterrupt) -> NoReturn:
    click.echo(f"\n{str(interrupt) or 'Interrupted.'}", err=True)
    ctx.exit(EXIT_INTERRUPTED)
