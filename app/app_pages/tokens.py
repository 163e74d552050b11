"""One head on one prompt: what ablating it does to the prediction of every token, and where to look next."""

import re
from functools import partial
from typing import Any

import polars as pl
import streamlit as st

from selfrepair.app.components.figure import below
from selfrepair.app.components.token_view import Field, drawing, largest, show_tokens
from selfrepair.app.controls.head import choose_head, heads_of_run
from selfrepair.app.controls.named_list import choose_name
from selfrepair.app.controls.sidebar import choose
from selfrepair.app.data.answers import ask
from selfrepair.app.data.choice import Choice
from selfrepair.app.data.tokens import (
    CLEAN,
    CONTEXT,
    EFFECTS,
    NEUTRAL,
    heads_at,
    of_head,
    of_prompt,
    rows_with,
    top_rows,
)
from selfrepair.app.wording.columns import column, meaning, title, words
from selfrepair.app.wording.escape import plain
from selfrepair.app.wording.whitespace import meant_by, visible, visible_column
from selfrepair.warehouse.schema import NEXT_TOKEN

SOURCES = dict.fromkeys(EFFECTS, "self_repair") | dict.fromkeys(CLEAN, "tokens")
MEASURES = [name for name in SOURCES if name != "clean_rank"]
FULL_AT = {"logits": 2.0, "ratio": 0.1, "nats": 8.0}
"""Where a fixed scale's colours are full at first, by unit."""

ORDERS = {"strongest": "direct_effect DESC", "most repaired": "self_repair DESC", "made worse": "self_repair"}
BY_TOKEN = "with a token"
MOST_LISTED = 20
MOST_FOUND = 100
MOST_LOCKED = 100


def locked_words() -> list[str]:
    """What the link or the widget says of locked positions, word by word."""
    return re.findall(r"[^\s,;]+", str(st.session_state.get("locked") or ""))


def is_position(word: str) -> bool:
    """True for a whole number from 0 that a prompt may have a position of."""
    return re.fullmatch(r"[0-9]{1,6}", word) is not None


def locked_positions() -> list[int]:
    """What the link or the widget locks, in the order of locking."""
    return list(dict.fromkeys(map(int, filter(is_position, locked_words()))))[:MOST_LOCKED]


def lock(positions: list[int]) -> None:
    """Have these locked, and the heads shown at the last of them."""
    st.session_state["locked"] = ",".join(map(str, positions))
    if positions:
        st.session_state["at"] = str(positions[-1])


def lock_clicked() -> None:
    """Take over what was clicked in the text."""
    clicked = st.session_state["text"].lock
    if clicked is not None:
        lock([int(position) for position in clicked])


def go_to(prompt: int, positions: list[int]) -> None:
    """Show a prompt with these of its positions locked."""
    st.session_state["prompt"] = prompt
    lock(positions)


def go_to_row(rows: pl.DataFrame, table: str) -> None:
    """Show the prompt of the chosen row of a table, its position locked."""
    for chosen in st.session_state[table]["selection"]["rows"]:
        prompt, pos = rows["prompt_id"][chosen], rows["pos"][chosen]
        others = locked_positions() if prompt == st.session_state.get("prompt") else []
        go_to(prompt, [*(other for other in others if other != pos), pos])


def show_head(rows: pl.DataFrame, table: str) -> None:
    """Show the head of the chosen row of a table."""
    for chosen in st.session_state[table]["selection"]["rows"]:
        st.session_state["head"] = rows["label"][chosen]


def columns_of(frame: pl.DataFrame) -> dict[str, Any]:
    """How a table shows them: names with units, meanings as help."""
    shown: dict[str, Any] = {}
    for name in frame.columns:
        view = "self_repair" if name == "label" else SOURCES.get(name, "tokens")
        if name == "context":
            shown[name] = st.column_config.Column("Text", help=f"The last {CONTEXT} tokens up to the one that is read")
        elif name in MEASURES:
            shown[name] = st.column_config.NumberColumn(title(view, name), help=meaning(view, name), format="%.4f")
        else:
            heading = "Head" if name == "label" else title(view, name)
            shown[name] = st.column_config.Column(heading, help=meaning(view, name))
    return shown


def readable(frame: pl.DataFrame) -> pl.DataFrame:
    """The same with signs for the blanks in texts."""
    texts = [name for name in ("context", "token", "target") if name in frame.columns]
    return frame.with_columns(visible_column(name) for name in texts)


def heads_to_choose(choice: Choice) -> pl.DataFrame:
    """The run's heads; those of a run without summaries too, whose rows can be read all the same."""
    heads = heads_of_run(choice)
    if not heads.is_empty():
        return heads
    of_run = f"SELECT unnest(selected_heads) AS label\nFROM runs\nWHERE run_id = {choice.run['run_id']}"
    return ask(of_run).with_columns(mean_direct_effect=pl.lit(None, pl.Float64))


def choose_prompt(run_id: int) -> int:
    """Draw number and buttons; a prompt of the run that is loaded. Ends the page when none is."""
    from_prompts = f"FROM prompts\nWHERE run_id = {run_id}"
    (known,) = ask(
        f"SELECT min(prompt_id) AS first, max(prompt_id) AS last, count(*) AS n_prompts\n{from_prompts}"
    ).to_dicts()
    first, last, n_prompts = known.values()
    if not n_prompts:
        st.info("No prompts of this run are loaded yet. Load its part files: `selfrepair load FOLDER`.")
        st.stop()
    wanted = str(st.session_state.get("prompt", st.query_params.get("prompt", first)))
    if not (wanted.isdecimal() and first <= int(wanted) <= last):
        notices.warning(f"This run has prompts {first} to {last}, and none with the number asked for.")
        go_to(first, [])
    prompt: int = st.number_input(
        "Prompt",
        first,
        last,
        key="prompt",
        bind="query-params",
        on_change=lock,
        args=([],),
        help=f"{column('prompts', 'prompt_id').comment}. This run has {n_prompts:,} of them, {first} to {last}.",
        width=150,
    )
    (near,) = ask(
        f"SELECT\n    max(prompt_id) FILTER (prompt_id < {prompt}) AS previous,\n"
        f"    min(prompt_id) FILTER (prompt_id > {prompt}) AS next,\n"
        f"    count(*) FILTER (prompt_id = {prompt}) AS n_here\n{from_prompts}"
    ).to_dicts()
    for name, icon in (("previous", "navigate_before"), ("next", "navigate_next")):
        st.button(
            name.capitalize(),
            key=f"{name} prompt",
            icon=f":material/{icon}:",
            disabled=near[name] is None,
            on_click=go_to,
            args=(near[name], []),
        )
    if not near["n_here"]:
        st.info(f"Prompt {prompt} is not loaded yet; the previous and next ones are a click away.")
        st.stop()
    return prompt


choice = choose()
st.title("Tokens")
notices = st.container()
with st.container(horizontal=True, vertical_alignment="bottom"):
    label = choose_head(heads_to_choose(choice))
    prompt = choose_prompt(choice.run["run_id"])
    measure = choose_name(
        "Colour",
        MEASURES,
        "colour",
        words,
        first="self_repair",
        help="The number of a row that colours its token. Hover a token to read them all.",
        width=240,
    )
where_head = of_head(choice.where_rows, label)
fields = {
    name: Field(name, words(name), column(view, name).unit, NEUTRAL.get(name, 0.0)) for name, view in SOURCES.items()
}
shown = fields[measure]
strength = measure if measure in EFFECTS else "direct_effect"
largest_first = f"by {title('self_repair', strength)}, the largest first, up or down"

with st.container(horizontal=True, vertical_alignment="bottom"):
    coloured = st.segmented_control(
        "On the token that is",
        ["predicted", "read"],
        default="predicted",
        key="coloured",
        bind="query-params",
        required=True,
        help="A row is about one prediction: a token is read, the next one is predicted, the head is gone.",
    )
    scale = st.segmented_control(
        "Full colour at",
        ["this prompt's largest", "a fixed value"],
        default="this prompt's largest",
        key="scale",
        bind="query-params",
        required=True,
        help="With a fixed value, colours of different prompts and heads can be compared.",
    )
    fixed = None
    if scale == "a fixed value":
        fixed = st.number_input(
            f"Value [{shown.unit}]",
            min_value=0.0001,
            value=FULL_AT[shown.unit],
            format="%.4g",
            key=f"max_{shown.unit}",
            bind="query-params",
            help=f"The distance from {shown.neutral:g} from which on colours are full.",
            width=140,
        )
    st.text_input(
        "Locked positions",
        key="locked",
        bind="query-params",
        placeholder="click tokens, or 3,17",
        help="Positions, of the token that is read, to compare below in the order of locking.",
        width=200,
    )

sql = of_prompt(where_head, prompt)
rows = ask(sql)
if rows.is_empty():
    st.info(f"Prompt {prompt} has no rows of {label} under {choice.ablation}. What is loaded: `selfrepair runs`.")
    st.stop()
positions = rows["pos"].to_list()
locked = [pos for pos in locked_positions() if pos in positions]
lost = [str(pos) for pos in locked_positions() if pos not in positions]
odd = [word for word in locked_words() if not is_position(word)]
if odd:
    notices.warning(f"Locked positions are whole numbers such as 3,17; not read: {plain(', '.join(odd)[:100])}")
if lost:
    notices.warning(f"This prompt has positions {positions[0]} to {positions[-1]}; {', '.join(lost)} cannot be locked.")

whose = "its own prediction, made at the token before it" if coloured == "predicted" else "the prediction made at it"
st.caption(
    f"{label} ablated ({choice.ablation}). Each token has the colour of {whose}. {meaning(SOURCES[measure], measure)}."
)
if choice.run["logit_of"] != NEXT_TOKEN:
    text_sql = f"SELECT text\nFROM prompts\nWHERE run_id = {choice.run['run_id']} AND prompt_id = {prompt}"
    st.caption("Only the position before the answer was measured. The whole prompt, with its answer:")
    st.code(ask(text_sql)["text"].item(), language=None, wrap_lines=True)
show_tokens(
    drawing(
        rows,
        list(fields.values()),
        shown,
        fixed or largest(rows[measure], shown.neutral),
        by_target=coloured == "predicted",
        locked=locked,
    ),
    key="text",
    on_lock=lock_clicked,
)
below(rows, sql, name="prompt_tokens")

locked_part = st.container()
if locked:
    with locked_part:
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.subheader("Locked tokens")
            st.button("Unlock all", icon=":material/lock_open:", on_click=lock, args=([],))
        order = pl.DataFrame({"pos": locked}, schema={"pos": rows.schema["pos"]})
        compared = order.join(rows, on="pos", maintain_order="left")
        st.dataframe(readable(compared), hide_index=True, column_config=columns_of(compared))
        below(compared, of_prompt(where_head, prompt, locked), name="locked_tokens")

        st.subheader("The strongest heads there")
        names = [str(pos) for pos in locked]
        if st.session_state.get("at", st.query_params.get("at")) not in names:
            st.session_state["at"] = names[-1]
        with st.container(horizontal=True, vertical_alignment="bottom"):
            at = st.selectbox(
                "At position", names, key="at", bind="query-params", help="One of the locked ones.", width=140
            )
            (there,) = compared.filter(pl.col("pos") == int(at)).select("token", "target").rows()
            st.text(f"{visible(there[0])}  →  {visible(there[1])}")
        st.caption(f"All heads, {largest_first}. Choose a row to see the prompt by that head.")
        sql = heads_at(choice.where_rows, prompt, int(at), strength)
        heads = ask(sql)
        table = f"heads at {prompt} {at} {strength} {choice.where_rows}"
        st.dataframe(
            heads,
            hide_index=True,
            height=280,
            column_config=columns_of(heads),
            key=table,
            on_select=partial(show_head, heads, table),
            selection_mode="single-row",
        )
        below(heads, sql, name="heads_at_token")

st.subheader("Go to")
with st.container(horizontal=True, vertical_alignment="bottom"):
    find = st.segmented_control(
        f"Rows of {label}", [*ORDERS, BY_TOKEN], default="strongest", key="find", bind="query-params", required=True
    )
    if find == BY_TOKEN:
        role = st.segmented_control(
            "Which is", ["predicted", "read"], default="predicted", key="role", bind="query-params", required=True
        )
        match = st.segmented_control(
            "Compared", ["whole", "in part"], default="whole", key="match", bind="query-params", required=True
        )
        wanted = st.text_input(
            "Token",
            key="token",
            bind="query-params",
            max_chars=100,
            placeholder="·the",
            help="With its blanks, which may be written as signs: · for a space, ⏎ for a line break, ⇥ for a tab.",
            width=220,
        )
if find != BY_TOKEN:
    st.caption("Of the population in the sidebar. Choose a row to go there.")
    sql = top_rows(of_head(choice.where, label), ORDERS[find], MOST_LISTED)
elif wanted:
    st.caption(f"Of all positions, {largest_first}. Choose a row to go there.")
    place = "target" if role == "predicted" else "token"
    sql = rows_with(where_head, place, meant_by(wanted), match == "whole", strength, MOST_FOUND)
else:
    st.caption("Type a token to find the prompts that have it.")
    st.stop()
found = ask(sql)
if found.is_empty():
    st.info(
        "No such token. Its blanks count, too; or compare in part."
        if find == BY_TOKEN
        else "This run has no summaries yet: `selfrepair refresh`."
    )
    st.stop()
table = f"found {label} {find} {choice.where}" + (f" {role} {match} {wanted}" if find == BY_TOKEN else "")
st.dataframe(
    readable(found),
    hide_index=True,
    column_config=columns_of(found),
    key=table,
    on_select=partial(go_to_row, found, table),
    selection_mode="single-row",
)
below(found, sql, name="found_rows")
