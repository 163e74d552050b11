"""SQL queries on the warehouse: typed, from a question, or from a link."""

import time
from collections.abc import Sequence
from urllib.parse import quote

import polars as pl
import streamlit as st

from selfrepair.app.charts.quick import KINDS, drawable, first_axes, quick_chart
from selfrepair.app.components import snippets
from selfrepair.app.components.figure import data_popover, show_figure
from selfrepair.app.controls import question_form
from selfrepair.app.controls.linked import linked_option, linked_segments, linked_selectbox
from selfrepair.app.data.chosen import MAX_LENGTH, choose, chosen, fits_link
from selfrepair.app.data.query import Rows, notify, query_frame, query_rows, warehouse_path
from selfrepair.app.wording.columns import known_columns
from selfrepair.app.wording.escape import escape_markdown
from selfrepair.queries.catalog.describe import grouped
from selfrepair.queries.catalog.header import Column
from selfrepair.queries.catalog.questions import questions
from selfrepair.queries.catalog.relations import relations
from selfrepair.queries.catalog.which_run import RUNS
from selfrepair.queries.sandbox.fence import LONGEST_QUERY
from selfrepair.queries.sandbox.served import MAX_ROWS, TIME_LIMIT_S
from selfrepair.warehouse.errors import SelfRepairError

MAX_HISTORY = 50
TEXT_WIDTH, ROW_HEIGHT = 330, 66
"""Size of cells with sentences of up to three lines [pixels]."""

FIRST = """SELECT label, mean_direct_effect, mean_self_repair, total_fraction_of_effect
FROM head_repair
WHERE ablation = 'resample' AND population = 'top2'
ORDER BY mean_self_repair DESC"""

state = st.session_state


def run(sql: str) -> None:
    """Run `sql` as a new query, whose chart has axes of its own, and show it in the editor."""
    drop_axes()
    open_query(sql)


def drop_axes() -> None:
    """Choose no columns for the chart any more."""
    for axis in ("x", "y", "colour_by"):
        choose(axis, None)


def open_query(sql: str) -> None:
    """Run `sql` and show it in the editor; for the name of a question open its form, which may need parameters."""
    state.editor = sql
    if (name := sql.strip().removesuffix(";").rstrip()) in questions():
        choose("beside", "Questions")
        choose("question", name)
        choose("sql", None)
        choose("draft", None)
        return
    choose("sql", sql)
    choose("draft", None)
    state.is_new = True


def run_editor() -> None:
    """Run the text of the editor."""
    run(state.editor)


def fill_editor() -> None:
    """Put the query that came with a link, or was run, into the editor, once. A draft is put there and not run."""
    draft = chosen("draft")
    if draft is not None and draft != state.get("draft in editor"):
        state.editor = draft
    state["draft in editor"] = draft
    sql = chosen("sql")
    if sql is not None and sql != state.get("in editor"):
        open_query(sql)
    state["in editor"] = chosen("sql")
    if "editor" not in state:
        state.editor = FIRST


def listing(key: str, heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """A table of options; a click on a cell sets the widget `key` to the first cell of its row."""

    def select() -> None:
        cells = state[f"list of {key}"].selection.cells
        if cells:
            choose(key, rows[cells[0][0]][0])

    st.dataframe(
        pl.DataFrame(rows, schema=list(heading), orient="row"),
        key=f"list of {key}",
        hide_index=True,
        height=420,
        row_height=ROW_HEIGHT,
        column_config={heading[1]: st.column_config.Column(width=TEXT_WIDTH)},
        on_select=select,
        selection_mode="single-cell",
    )


def described(column: Column) -> str:
    """A column as Markdown: its name, type and unit, and below them its meaning."""
    kind = f"{column.type} [{column.unit}]" if column.unit else column.type
    return f"**{escape_markdown(column.name)}** :gray[{escape_markdown(kind)}]  \n{escape_markdown(column.description)}"


def tables() -> None:
    """List the tables and views by group, or the columns of the chosen one."""
    groups = {relation.name: heading for heading, group in grouped(relations().values()).items() for relation in group}
    name = linked_option(
        "Table or view",
        list(groups),
        "view",
        placeholder="Type to find one",
        label_visibility="collapsed",
    )
    if name is None:
        summaries = [(name, relations()[name].summary, heading) for name, heading in groups.items()]
        listing("view", ("name", "description", "group"), summaries)
        return
    relation = relations()[name]
    grain = f" One row for each {', '.join(relation.grain)}." if relation.grain else ""
    st.caption(escape_markdown(f"{relation.summary}{grain}"))
    with st.container(height=310):
        st.markdown("\n\n".join(map(described, relation.columns)))
    st.button("Query this view", on_click=run, args=[f"FROM {name}\nLIMIT 100"], icon=":material/play_arrow:")


def question_library() -> None:
    """List the questions that come with selfrepair, or the form of the chosen one."""
    known = questions()
    name = linked_option(
        "Question",
        list(known),
        "question",
        placeholder="Type to find one",
        label_visibility="collapsed",
    )
    if name is None:
        listing("question", ("name", "question"), [(name, question.view.summary) for name, question in known.items()])
        return
    question = known[name]
    st.caption(escape_markdown(" ".join([question.view.summary, *question.view.notes])))
    runs = query_frame(RUNS).to_dicts()
    with st.form("question form", border=False):
        with st.container(height=230, border=False):
            values = question_form.parameter_widgets(question, runs)
        submitted = st.form_submit_button("Run question", icon=":material/play_arrow:")
    if submitted:
        try:
            asked = question_form.question_sql(question, values, runs)
        except SelfRepairError as error:
            st.error(escape_markdown(str(error)), icon=":material/error:")
        else:
            drop_axes()
            choose("sql", asked)
            choose("draft", None)
            st.rerun()


def history() -> None:
    """List the queries of this session, the latest first."""
    queries = state.get("history", [])
    if not queries:
        st.caption("Queries of this session will be listed here.")
        return
    with st.container(height=380, border=False):
        for number, (at, sql, outcome) in enumerate(reversed(queries)):
            line = " ".join(sql.split())
            label = escape_markdown(line if len(line) <= 70 else f"{line[:70]}...") or "(empty)"
            st.button(
                label, key=f"history {number}", on_click=run, args=[sql], type="tertiary", help=f"{at}, {outcome}"
            )


def remember(sql: str, outcome: str) -> None:
    """Add a query that was just run to the history."""
    if state.pop("is_new", False):
        state.history = [*state.get("history", []), (time.strftime("%H:%M:%S"), sql, outcome)][-MAX_HISTORY:]


def show_error(text: str) -> None:
    """DuckDB's message, and below it the line of the query with a mark at the position."""
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith("LINE ")), len(lines))
    st.error(escape_markdown("\n".join(lines[:start]).strip()), icon=":material/error:")
    if lines[start:]:
        st.code("\n".join(lines[start : start + 2]), language=None)


def copy_as_code(sql: str) -> None:
    """The query as code for a shell or Python."""
    with st.popover("Copy as code", type="tertiary", icon=":material/content_copy:"):
        for heading, snippet, language in (
            ("Python, as a polars frame", snippets.python, "python"),
            ("Shell, all rows as CSV", snippets.selfrepair, "bash"),
            ("DuckDB CLI", snippets.duckdb, "bash"),
        ):
            st.caption(heading)
            st.code(snippet(sql, warehouse_path()), language=language, height=200 if sql.count("\n") > 5 else "content")


def result(sql: str, rows: Rows) -> None:
    """Show the result as a table or a chart."""
    frame = rows.frame
    counted = f"{frame.height:,} {'row' if frame.height == 1 else 'rows'}"
    with st.container(horizontal=True, vertical_alignment="center"):
        shape = linked_segments("Show as", ["table", "chart"], "as", label_visibility="collapsed")
        st.caption(f"{counted}, {frame.width:,} columns, in {rows.seconds:.2f} s")
        copy_as_code(sql)
    if rows.truncated:
        st.warning(
            f"These are the first {frame.height:,} rows; the query has more. 'Copy as code' has a line that writes them all.",
            icon=":material/content_cut:",
        )
    if rows.stale:
        st.warning(escape_markdown(rows.stale), icon=":material/history:")
    if shape == "chart":
        quick_figure(sql, frame)
        return
    config = {
        name: st.column_config.Column(help=escape_markdown(f"{known.comment} (column {known.name} of the warehouse)"))
        for name, known in known_columns(tuple(frame.columns)).items()
    }
    st.dataframe(frame, hide_index=True, column_config=config, height=min(600, 38 + 35 * max(1, frame.height)))
    data_popover(frame, sql, name="result")


def quick_figure(sql: str, frame: pl.DataFrame) -> None:
    """Show a quick chart of the result."""
    columns = frame.columns
    first_x, first_y = first_axes(frame)
    with st.container(horizontal=True):
        kind = linked_selectbox("Kind", KINDS, "kind", width=140)
        x = linked_selectbox("x", columns, "x", first=first_x, noun="column", width=220)
        y = x
        if kind != "histogram":
            y = linked_selectbox("y", columns, "y", first=first_y, noun="column", width=220)
        colour = linked_option("Colour", columns, "colour_by", width=220)
    shown = drawable(frame, x, y)
    if shown.height < frame.height:
        st.caption(f"{frame.height - shown.height:,} rows are not drawn: NULL, or not finite.")
    keys = [x] if colour is None else [x, colour]
    if kind == "bars" and shown.select(keys).is_duplicated().any():
        st.caption("Several rows share a bar and hide each other: aggregate them with GROUP BY.")
    titles = {name: f"{name} [{known.unit}]" for name, known in known_columns(tuple(columns)).items() if known.unit}
    show_figure(quick_chart(shown, kind, x, y, colour, titles), shown, sql, name="chart")


fill_editor()
st.title("SQL")
st.html("<style>.stTextArea textarea { font-family: monospace !important; }</style>")
left, right = st.columns(2, gap="medium")
with left, st.form("query", border=False):
    st.text_area(
        "SQL",
        key="editor",
        height=380,
        max_chars=LONGEST_QUERY,
        label_visibility="collapsed",
        placeholder="One SELECT, or the name of a table, view or question",
        persist_state="session",
    )
    st.form_submit_button("Run", type="primary", on_click=run_editor, icon=":material/play_arrow:", help="Ctrl+Enter")
with right:
    beside = {"Tables and views": tables, "Questions": question_library, "History": history}
    panel = linked_segments("Beside the editor", beside, "beside", label_visibility="collapsed")
    beside[panel]()

sql = chosen("sql") or ""
if chosen("draft") is not None:
    st.info(
        "This SQL came with a link from another site and was not run. Read it, then press Run.", icon=":material/link:"
    )
elif sql.strip():
    if not fits_link(sql):
        st.caption(f"This query is too long for a link ({len(quote(sql)):,} of {MAX_LENGTH:,} characters).")
    try:
        with st.spinner(f"Running, {TIME_LIMIT_S:g} s at most", show_time=True):
            rows = query_rows(sql, MAX_ROWS, flat=True)
    except SelfRepairError as error:
        remember(sql, "error")
        show_error(str(error))
    else:
        remember(sql, f"{rows.frame.height:,} rows, {rows.seconds:.2f} s")
        notify(rows)
        result(sql, rows)
else:
    st.caption(
        f"The warehouse is read-only: one SELECT at a time, at most {MAX_ROWS:,} rows and {TIME_LIMIT_S:g} s. Press Run, or "
        "choose a view or a question."
    )
