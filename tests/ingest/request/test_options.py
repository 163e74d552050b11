"""The options of `ingest` and `bench` are the fields of their requests: names, help, defaults, and what is typed."""

import dataclasses
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from selfrepair.ingest.cli import session
from selfrepair.ingest.cli.bench import bench
from selfrepair.ingest.cli.ingest import ingest
from selfrepair.ingest.request.bench_request import BenchRequest
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.request.options import add_options, option, typed_options


@pytest.mark.parametrize(("command", "request_type"), [(ingest, IngestRequest), (bench, BenchRequest)])
def test_each_field_is_an_option_in_order_with_its_help_and_default(command, request_type):
    fields = dataclasses.fields(request_type)
    options = [param for param in command.params if isinstance(param, click.Option)][: len(fields)]
    assert [param.name for param in options] == [field.name for field in fields]
    for param, field in zip(options, fields, strict=True):
        assert param.help == field.metadata["help"]
        assert param.required is (field.default is dataclasses.MISSING)
        if not param.required:
            assert param.default == field.default


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """One field of each kind."""

    what: str = option("What.")
    n_pieces: int = option("How many.", 0, flag="--pieces", type=click.IntRange(0))
    note: str | None = option("Note.", None)
    gift: bool = option("Gift.", False)
    receipt: bool = option("Receipt.", True)


@click.command()
@add_options(Order)
def order(**options):
    click.echo(Order(**options))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--what", "tea"], Order(what="tea")),
        (
            ["--what", "tea", "--pieces", "3", "--note", "soon", "--gift", "--no-receipt"],
            Order(what="tea", n_pieces=3, note="soon", gift=True, receipt=False),
        ),
    ],
)
def test_what_is_typed_is_what_the_fields_hold(words, expected):
    assert CliRunner().invoke(order, words).output == f"{expected}\n"
    assert typed_options(expected) == words


def test_the_command_of_a_request_is_the_request_again(tmp_path, monkeypatch):
    """Whatever its options: a run records it, and is continued by it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my texts.jsonl").touch()
    (tmp_path / "demo").mkdir()
    asked = IngestRequest(
        model="demo",
        dataset="my texts.jsonl",
        text_column="body",
        trust_remote_code=True,
        n_prompts=7,
        edges=False,
        shard="1/2",
    )
    program, _, *words = shlex.split(asked.command(Path("elsewhere")))
    assert program == "selfrepair"
    requests = []
    monkeypatch.setattr(session, "ingest", lambda request, **rest: requests.append((request, rest["parts"])))
    monkeypatch.setattr("selfrepair.ingest.request.validation.check_request", lambda request: None)
    CliRunner().invoke(ingest, words, catch_exceptions=False)
    assert requests == [(dataclasses.replace(asked, dataset="./my texts.jsonl", shard=None), Path("elsewhere"))]


def test_help_shows_defaults_and_what_is_required():
    said = " ".join(CliRunner().invoke(order, ["--help"]).output.split())
    assert "--what TEXT What. [required]" in said
    assert "--pieces INTEGER RANGE How many. [default: 0; x>=0]" in said
    assert "--note TEXT Note. --gift Gift. --receipt / --no-receipt Receipt. [default: receipt]" in said
    assert "Missing option '--what'" in CliRunner().invoke(order, []).output
