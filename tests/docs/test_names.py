"""Names in the documents exist: columns, views, options, commands, folders, pages."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from selfrepair.app.cli.main import SECTIONS, main
from selfrepair.queries.catalog.questions import questions
from selfrepair.queries.catalog.relations import relations
from support.documents import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"`((?:app|ingest|queries|warehouse|tests|docs)/[\w/.-]*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
COMMAND = re.compile(r"\bselfrepair (?!import\b)([a-z]+)\b")
ELSEWHERE = {"--out"} | {
    *("--array", "--cpus-per-task", "--dependency", "--gpus", "--gpus-per-node", "--job-name", "--mem", "--nodes"),
    *("--ntasks-per-node", "--parsable", "--time", "--wrap", "--standalone", "--nproc-per-node", "--no-python"),
    *("--address", "--generate", "--head"),
}
"""Options of scripts that are no command of selfrepair, and of Slurm, torchrun and Ray."""


def commands() -> Iterator[click.Command]:
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command
        yield command
        if isinstance(command, click.Group):
            yield from command.commands.values()


def options(of: click.Command) -> set[str]:
    return {name for option in of.params for name in (*option.opts, *option.secondary_opts) if name.startswith("--")}


def test_every_name_of_the_glossary_is_one_of_the_warehouse() -> None:
    found = [name for name in CODE.findall(GLOSSARY) if re.fullmatch(r"[a-z][a-z0-9_]*", name)]
    assert len(found) > 80
    columns = {column.name for relation in relations().values() for column in relation.columns}
    text = " ".join(
        column.type + column.description for relation in relations().values() for column in relation.columns
    )
    values = set(re.findall(r"'(\w+)'", text))
    known = columns | values | relations().keys() | questions().keys()
    assert set(found) - known == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_exists(page: Path) -> None:
    known = set().union(*(options(command) for command in commands())) | ELSEWHERE
    assert set(OPTION.findall(page.read_text(encoding="utf-8"))) - known == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists(page: Path) -> None:
    known = {name for section in SECTIONS.values() for name in section}
    text = page.read_text(encoding="utf-8")
    shown = "\n".join([*CODE.findall(text), *re.findall(r"^(?:    +|\$ ).*$", text, re.MULTILINE)])
    assert set(COMMAND.findall(shown)) - known == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_exists(page: Path) -> None:
    missing = [name for name in FILE.findall(page.read_text(encoding="utf-8")) if not (ROOT / name).exists()]
    assert [name for name in missing if not (ROOT / f"{name}.py").exists()] == []


def test_every_option_of_ingest_is_documented() -> None:
    (ingest,) = [command for command in commands() if command.name == "ingest"]
    text = (ROOT / "docs" / "measuring.md").read_text(encoding="utf-8") + GLOSSARY
    assert {name for name in options(ingest) if name not in text} == set()


def test_every_page_of_the_app_is_documented() -> None:
    text = (ROOT / "docs" / "app.md").read_text(encoding="utf-8")
    (pages,) = [
        ast.literal_eval(node.value)
        for node in ast.parse((ROOT / "app" / "home.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PAGES"
    ]
    titles = {title for group in pages.values() for title, _ in group.values()}
    rows = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    assert {row for row in rows if row not in {"page", "---"}} == titles
