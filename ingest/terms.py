"""What errors call the choices of a request: options of `selfrepair ingest`, or arguments of `measure`."""

from contextvars import ContextVar
from pathlib import Path

from selfrepair.warehouse.errors import in_words

_ARGUMENTS = {"ablation": "ablations"}
"""Arguments of `measure` that have another name than the option."""


_device: ContextVar[str] = ContextVar("device", default="--device {}")


def option(name: str, value: object = None) -> str:
    """`--heads`, or with a value `--heads L9H6`; in a call of `measure`, `heads` and `heads="L9H6"`, `seed=3`."""
    argument = _ARGUMENTS.get(name, name)
    if value is None:
        return in_words(f"--{name}", argument)
    return in_words(f"--{name} {value}", f"{argument}={value}" if isinstance(value, int) else f'{argument}="{value}"')


def on_device(name: str) -> str:
    """How the model gets onto another device: `--device cpu`, or what `devices_are_named` says, or `model.to("cpu")`."""
    return in_words(_device.get().format(name), f'model.to("{name}")')


def devices_are_named(words: str) -> None:
    """From now on, this thread's errors name devices by these words, such as `--devices {}`."""
    _device.set(words)


def without_self_repression() -> str:
    """To measure all other mechanisms: `leave --self-repression out`, or out of `mechanisms`."""
    return in_words(
        "leave --self-repression out (--mechanisms includes it: name --logprobs instead)",
        'leave "self_repression" out of mechanisms',
    )


def row_of(source: Path | str, number: int, unit: str = "row") -> str:
    """The row `number`, from 0, of the prompts: `texts.jsonl, row 3`, as lines of files are counted, or `prompts[2]`."""
    return in_words(f"{source}, {unit} {number + 1}", f"prompts[{number}]")
