"""The tools for assistants, asked by the SDK's own client."""

import base64
import json
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import anyio
import duckdb
import pytest
from mcp import StdioServerParameters
from mcp.client.client import Client
from mcp.client.stdio import stdio_client

from selfrepair import Warehouse
from selfrepair.app.server import asking
from selfrepair.app.server.asking import Asker
from selfrepair.app.server.assistants.bounded import MAX_CHARACTERS, MAX_ROWS, bounded
from selfrepair.app.server.assistants.figures import FIGURES
from selfrepair.app.server.assistants.tools import _figure, server_of
from selfrepair.queries.catalog.questions import questions
from selfrepair.queries.catalog.relations import relations
from support.loaded import loaded


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse of one run that has a table of its user's own, with a long text."""
    found = loaded(tmp_path_factory.mktemp("assistants"))
    with duckdb.connect(found) as con:
        con.execute("CREATE TABLE my_own AS SELECT repeat('x', 5000) AS long_text")
    return found


def in_a_thread(run: Callable[[], Awaitable[None]]) -> None:
    """Run it in a loop of its own: tests in a browser leave one running in this thread."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(anyio.run, run).result()


def with_client(db: Path, talk: Callable[[Client], Awaitable[None]]) -> None:
    """Have a client talk to the server, in this process."""

    async def run() -> None:
        async with Client(server_of(db)) as client:
            await talk(client)

    in_a_thread(run)


def answers(db: Path, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """What the tools answer: structured where it is no error, else the error's text."""
    found: list[Any] = []

    async def talk(client: Client) -> None:
        for name, arguments in calls:
            result = await client.call_tool(name, arguments)
            found.append(result.content[0].text if result.is_error else result.structured_content)  # type: ignore[union-attr]

    with_client(db, talk)
    return found


def test_every_tool_says_that_it_only_reads_and_what_it_takes(db: Path) -> None:
    tools: list[Any] = []

    async def talk(client: Client) -> None:
        tools.extend((await client.list_tools()).tools)
        assert "list_runs" in str(client.instructions)

    with_client(db, talk)
    names = {"list_runs", "list_questions", "list_tables", "describe", "ask_question", "read_view", "sql", "figure"}
    assert {tool.name for tool in tools} == names
    for tool in tools:
        assert (tool.annotations.read_only_hint, tool.annotations.open_world_hint) == (True, False)
        assert tool.description.endswith(".")
        assert all("description" in one or "enum" in one for one in tool.input_schema["properties"].values())


def test_answers_are_those_that_python_has(db: Path) -> None:
    sql = "SELECT label, mean_self_repair FROM head_repair WHERE ablation = $ablation AND population = 'all' ORDER BY label"
    runs, asked, view, rows, described, own = answers(
        db,
        ("list_runs", {}),
        ("ask_question", {"name": "most_repaired_heads", "parameters": {"at_most": 3, "run": 1}}),
        (
            "read_view",
            {"name": "head_repair", "filters": {"head": "L1H2", "ablation": ["mean", "zero"]}, "columns": ["label"]},
        ),
        ("sql", {"query": sql, "parameters": {"ablation": "mean"}}),
        ("describe", {"name": "head_repair"}),
        ("describe", {"name": "my_own"}),
    )
    warehouse = Warehouse(db)
    assert [run["run_id"] for run in runs["rows"]] == [1]
    assert len(asked["rows"]) == 3
    assert any("say little" in note for note in asked["notes"])  # means of few rows
    assert view["rows"] == [{"label": "L1H2"}] * 6
    assert [row["label"] for row in rows["rows"]] == warehouse.sql(sql, {"ablation": "mean"})["label"].to_list()
    assert (rows["n_rows"], rows["is_cut"]) == (12, False)
    assert {each["column"] for each in described["columns"]} == {
        each.name for each in relations()["head_repair"].columns
    }
    assert [each["column"] for each in own["columns"]] == ["long_text"]


def test_lists_are_found_by_words(db: Path) -> None:
    found, every, tables = answers(
        db,
        ("list_questions", {"search": "Most repaired heads"}),
        ("list_questions", {}),
        ("list_tables", {"search": "frozen"}),
    )
    assert "most_repaired_heads" in {row["name"] for row in found["rows"]}
    assert {row["name"] for row in every["rows"]} == set(questions())
    (tail,) = [row for row in every["rows"] if row["name"] == "tail_of_head"]
    assert "layer INTEGER (needed)" in tail["parameters"]
    assert {row["name"] for row in tables["rows"]} >= {"frozen_layernorm"}


def test_what_is_cut_is_said(db: Path) -> None:
    few, many, wide, refused = answers(
        db,
        ("sql", {"query": "FROM measurements", "limit": 5}),
        ("sql", {"query": "FROM self_repair", "limit": MAX_ROWS}),
        ("sql", {"query": "FROM my_own"}),
        ("sql", {"query": "FROM measurements", "limit": MAX_ROWS + 1}),
    )
    assert (few["n_rows"], few["is_cut"], few["notes"]) == (
        5,
        True,
        ["There are more rows than these 5. Narrow the question, or give a higher limit."],
    )
    assert many["is_cut"]
    assert many["notes"][-1].startswith(f"Only the first {many['n_rows']} rows fit")
    assert wide["rows"][0]["long_text"].endswith("xx... (5,000 characters)")
    assert wide["notes"] == ["Values of more than 2,000 characters are cut."]
    assert "500" in refused


def test_an_answer_has_no_more_characters_than_it_may() -> None:
    rows = [{"a": "é" * 50, "b": [number] * 3} for number in range(2_000)]
    found = bounded(rows)
    assert found["rows"] == rows[: found["n_rows"]]
    assert 0.9 * MAX_CHARACTERS < sum(len(json.dumps(row)) for row in found["rows"]) <= MAX_CHARACTERS


@pytest.mark.parametrize(
    ("tool", "arguments", "text"),
    [
        ("sql", {"query": "FROM measurement"}, "did you mean measurements"),
        ("sql", {"query": "DROP TABLE runs"}, "SELECT"),
        ("sql", {"query": "FROM read_csv('/etc/passwd')"}, "read_csv"),
        ("sql", {"query": "x" * 1_000_000}, "'xxx"),
        ("sql", {"query": f"SELECT {'1, ' * 300_000} 1"}, "200,000"),
        ("describe", {"name": "x" * 1_000_000}, "'xxx"),
        ("describe", {"name": "head_repiar"}, "did you mean head_repair"),
        (
            "ask_question",
            {"name": "tail_of_head"},
            'the tool ask_question, name="tail_of_head", parameters={"head": "L9H6"}',
        ),
        ("ask_question", {"name": "7"}, "See: the tool list_questions"),
        ("read_view", {"name": "head_repair", "filters": {"colum": 1}}, 'the tool describe, name="head_repair"'),
        ("figure", {"name": "map_of_heads", "measure": "mean_repair"}, "no measure 'mean_repair'"),
        ("figure", {"name": "map_of_heads", "run": "none"}, "no run of this warehouse is called 'none'"),
        ("figure", {"name": "map_of_heads", "ablation": "path"}, "no path ablation"),
        ("figure", {"name": "self_repair_of_head"}, "give its name"),
    ],
)
def test_errors_name_the_next_step(db: Path, tool: str, arguments: dict[str, Any], text: str) -> None:
    (found,) = answers(db, (tool, arguments))
    assert text in found
    assert "Traceback" not in found
    assert len(found) < 5_000  # a view's columns, and no name of a megabyte


def test_a_cancelled_call_ends_its_query(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "TIME_LIMIT_S", 3_000.0)

    async def talk(client: Client) -> None:
        for _ in range(3):  # one more than run at a time
            with anyio.move_on_after(0.2):
                endless = "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c"
                await client.call_tool("sql", {"query": endless})
        result = await client.call_tool("sql", {"query": "SELECT 1 AS one"})
        assert result.structured_content["rows"] == [{"one": 1}]

    with_client(db, talk)


def test_figures_are_the_app_s(db: Path) -> None:
    pictures: dict[str, Any] = {}

    async def talk(client: Client) -> None:
        for name, kind in (
            ("map_of_heads", "png"),
            ("self_repair_of_head", "svg"),
            ("self_repair_by_component", "svg"),
        ):
            result = await client.call_tool("figure", {"name": name, "head": "L1H2", "kind": kind})
            assert not result.is_error, result.content
            pictures[name] = result.content[0]

    with_client(db, talk)
    assert base64.b64decode(pictures["map_of_heads"].data).startswith(b"\x89PNG")
    assert "L1H2" in pictures["self_repair_of_head"].text
    assert "tiny-model" in pictures["self_repair_by_component"].text
    named = get_args(_figure(Asker(db, "tool")).__annotations__["name"])
    assert named == tuple(FIGURES)


@pytest.mark.slow
def test_the_command_speaks_over_standard_input_and_output(db: Path) -> None:
    code = "from selfrepair.app.cli.main import main; main(prog_name='selfrepair')"
    server = StdioServerParameters(command=sys.executable, args=["-c", code, "mcp", "--db", str(db)])

    async def run() -> None:
        async with Client(stdio_client(server)) as client:
            result = await client.call_tool("sql", {"query": "SELECT count(*) AS n FROM measurements"})
            assert result.structured_content == {"rows": [{"n": 864}], "n_rows": 1, "is_cut": False, "notes": []}
            drawn = await client.call_tool("figure", {"name": "self_repair_by_depth"})
            assert drawn.content[0].type == "image"

    in_a_thread(run)
