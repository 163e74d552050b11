"""The tools of `selfrepair mcp`: what there is, what it means, and answers of a bounded size."""

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

import anyio.to_thread
from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from selfrepair.app.cli.failures import extra_of, install_line
from selfrepair.app.server.asking import Asker
from selfrepair.app.server.assistants.bounded import MAX_ROWS, ROWS, Answer, answer_of, bounded, matching
from selfrepair.queries.catalog.questions import bind, questions
from selfrepair.queries.catalog.which_run import RUNS, Run, which_run
from selfrepair.queries.client.frames import described, listed_views
from selfrepair.queries.client.records import Record, parameters_of, record_of
from selfrepair.queries.sandbox.answer import polars_frame
from selfrepair.queries.sandbox.query import QuestionQuery, SqlQuery, ViewQuery
from selfrepair.queries.sandbox.served import MAX_ROWS as MOST_DRAWN
from selfrepair.warehouse.errors import SelfRepairError, UnknownNameError, errors_in

INSTRUCTIONS = """A warehouse of self-repair in language models: for every attention head and token, what happens to the \
logit of the next token when the head is ablated, and which parts of the model compensate. Begin with list_runs and \
list_questions; describe says what columns mean, with units and signs. Rows exist once for each ablation, summaries also once \
for each population: always filter by both (ablation = 'resample', population = 'top2'). Intervals are clustered by document. \
Say which run, ablation and population a number is of, and repeat the notes of an answer."""

_READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_P = ParamSpec("_P")
_R = TypeVar("_R")

Limit = Annotated[int, Field(ge=0, le=MAX_ROWS, description="Rows at most.")]
Search = Annotated[str, Field(description="Words that name or summary must have; empty: all.")]


def server_of(db: Path) -> MCPServer:
    """The server over the warehouse `db`, not yet running."""
    server = MCPServer("selfrepair", version=version("selfrepair"), instructions=INSTRUCTIONS, log_level="WARNING")
    asker = Asker(db, "tool")
    for number, tool in enumerate(_tools(asker)):
        server.tool(annotations=_READS)(_called(tool, asker, partial(_tool, number)))
    server.tool(annotations=_READS, structured_output=False)(_called(_figure(asker), asker, _figure))
    return server


def _tool(number: int, asker: Asker) -> Callable[..., Any]:
    return _tools(asker)[number]


def _called(
    tool: Callable[_P, _R], asker: Asker, of_call: Callable[[Asker], Callable[_P, _R]]
) -> Callable[_P, Awaitable[_R]]:
    """The tool, whose errors the assistant reads, and which ends when the assistant cancels it; `of_call` is the same tool
    for one call.
    """

    @wraps(tool)
    async def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        one = asker.one()

        def answer() -> _R:
            with errors_in("tool"):
                return of_call(one)(*args, **kwargs)

        try:
            return await anyio.to_thread.run_sync(answer, abandon_on_cancel=True)
        except SelfRepairError as error:
            raise ToolError(str(error)) from error
        finally:
            one.give_up()

    return call


def _tools(asker: Asker) -> list[Callable[..., Any]]:
    def list_runs() -> Answer:
        """Every run: its number and name, the model and dataset that it measured, ablations, status."""
        return answer_of(asker.ask(SqlQuery(RUNS), MAX_ROWS))

    def list_questions(search: Search = "") -> Answer:
        """The built-in questions, each with what it answers and the parameters that it takes."""
        found = [
            {
                "name": each.name,
                "summary": each.view.summary,
                "parameters": list(map(_in_short, parameters_of(each))),
            }
            for each in questions().values()
        ]
        return matching(found, search, lambda row: f"{row['name']} {row['summary']}")

    def list_tables(search: Search = "") -> Answer:
        """Every table and view that SQL can read, with what a row of it is about."""
        return matching(listed_views().to_dicts(), search, lambda row: f"{row['name']} {row['summary']}")

    def describe(name: Annotated[str, Field(description="A table, view or question.")]) -> Answer:
        """What the columns of a table, view or question mean: type, unit, sign; and a question's parameters."""
        try:
            record = record_of(name)
        except UnknownNameError:  # a table of the user's own
            record = {"name": name, "kind": "table", "columns": described(name, asker.rows).to_dicts()}
        columns = bounded(record.pop("columns"))
        return {**record, "columns": columns["rows"], "notes": columns["notes"]}

    def ask_question(
        name: Annotated[str, Field(description="One of list_questions.")],
        parameters: Annotated[
            dict[str, Any], Field(description='Its parameters by name; head="L9H6" names a head with its layer.')
        ] = {},  # noqa: B006 (never changed)
        limit: Limit = ROWS,
    ) -> Answer:
        """The answer to a built-in question."""
        return answer_of(asker.ask(QuestionQuery(*bind(name, parameters)), limit, text_keys=True))

    def read_view(
        name: Annotated[str, Field(description="One of list_tables.")],
        filters: Annotated[
            dict[str, Any], Field(description='Values, or lists of values, by column, such as {"head": "L9H6"}.')
        ] = {},  # noqa: B006 (never changed)
        columns: Annotated[
            list[str] | Literal["headline", "all"],
            Field(description="Columns by name, or the few that say the answer."),
        ] = "headline",
        limit: Limit = ROWS,
    ) -> Answer:
        """Rows of a table or view."""
        named = {"run_id" if key == "run" else key: value for key, value in filters.items()}
        return answer_of(asker.ask(ViewQuery(name, named, columns, is_ordered=True), limit, text_keys=True))

    def sql(
        query: Annotated[str, Field(description="One SELECT in DuckDB's SQL, with an ORDER BY.")],
        parameters: Annotated[dict[str, Any], Field(description="Values of its $names.")] = {},  # noqa: B006
        limit: Limit = ROWS,
    ) -> Answer:
        """The rows that answer SQL. It reads this warehouse and nothing else, within 30 seconds."""
        return answer_of(asker.ask(SqlQuery(query, parameters or None), limit, text_keys=True))

    return [list_runs, list_questions, list_tables, describe, ask_question, read_view, sql]


def _figure(asker: Asker) -> Callable[..., Any]:
    def figure(
        name: Literal[
            "self_repair_by_component",
            "self_repair_by_depth",
            "map_of_heads",
            "effect_against_change",
            "self_repair_of_head",
        ],
        run: Annotated[str, Field(description="A run's number or name; may be left out where there is one run.")] = "",
        ablation: Annotated[str, Field(description="resample, mean or zero; by default the run's first.")] = "",
        population: Annotated[
            str, Field(description="Rows used: top2 (of direct effect), top2_nobos or all.")
        ] = "top2",
        head: Annotated[str, Field(description="For self_repair_of_head, such as L9H6.")] = "",
        measure: Annotated[str, Field(description="For map_of_heads: a column of head_repair.")] = "mean_self_repair",
        kind: Literal["png", "svg"] = "png",
    ) -> Image | str:
        """One of the app's figures, as a picture or as SVG text."""
        try:
            from selfrepair.app.server.assistants.figures import Asked, chosen, picture
        except ModuleNotFoundError as error:
            extra = extra_of(error.name or "")
            if extra is None:
                raise
            raise ToolError(f"figures need the package '{error.name}'. Install it: {install_line(extra)}") from error
        choice = chosen(_run(asker, run), ablation, population)
        drawn = picture(
            name,
            Asked(choice, head, measure),
            kind,
            lambda sql: polars_frame(asker.ask(SqlQuery(sql), MOST_DRAWN).table),
        )
        return drawn if isinstance(drawn, str) else Image(data=drawn, format="png")

    return figure


def _in_short(parameter: Record) -> str:
    takes = "|".join(parameter["choices"]) or parameter["type"]
    left_out = " (needed)" if parameter["required"] else f" = {parameter['default']}"
    return f"{parameter['parameter']} {takes}{left_out}"


def _run(asker: Asker, named: str) -> Run:
    runs = asker.rows(RUNS)
    if not named and len(runs) == 1:
        return runs[0]
    return which_run(runs, None, named or None)
