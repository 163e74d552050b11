"""What pages and commands say of an ingest, which they may not import, is what ingest itself has."""

import click

from selfrepair.app.cli import demo, reproduce
from selfrepair.app.data import resume_command
from selfrepair.ingest.cli.ingest import ingest
from selfrepair.ingest.request.protocols import DEFAULTS, PROTOCOLS
from selfrepair.ingest.text.prompts import PACKINGS
from selfrepair.ingest.text.rushing2024 import BATCH
from selfrepair.ingest.text.sources import STDLIB


def choices(option: str) -> list[str]:
    """What can be typed after an option of `selfrepair ingest`."""
    (kind,) = (param.type for param in ingest.params if option in param.opts)
    assert isinstance(kind, click.Choice)
    return list(kind.choices)


def test_reproduce_knows_the_protocol_of_the_paper() -> None:
    settings = PROTOCOLS[reproduce.PROTOCOL]
    assert (settings.dataset, settings.seq_len) == (reproduce.DATASET, reproduce.SEQ_LEN)
    assert reproduce.MIN_PROMPTS == BATCH + 1


def test_the_demo_has_the_usual_length() -> None:
    assert DEFAULTS.seq_len == demo.SEQ_LEN


def test_packings_and_protocols_can_be_typed_and_are_typed_again() -> None:
    assert choices("--protocol") == list(resume_command._PROTOCOLS) == list(PROTOCOLS)
    assert [settings.packing for settings in PROTOCOLS.values()] == list(PROTOCOLS)  # the run's packing is the protocol
    packings = [name for name in PACKINGS if name not in PROTOCOLS]
    assert choices("--packing") == packings == [DEFAULTS.packing, resume_command._DOCUMENT]
    assert resume_command._STDLIB == STDLIB
