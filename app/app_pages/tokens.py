"""One head on one prompt: the effect of its ablation on the prediction of every token, and rows to go to."""

import re
from functools import partial
from typing import Any

import polars as pl
import streamlit as st

from selfrepair.app.components.about import About
from selfrepair.app.components.figure import data_popover
from selfrepair.app.components.token_view import Field, largest, show_tokens, token_data
from selfrepair.app.controls.head import choose_head, run_heads
from selfrepair.app.controls.linked import (
    linked_number,
    linked_segments,
    linked_selectbox,
    linked_text,
    linked_whole_number,
)
from selfrepair.app.controls.sidebar import choose_run
from selfrepair.app.data.choice import POPULATIONS, Choice
from selfrepair.app.data.chosen import choose, chosen, say
from selfrepair.app.data.query import query_frame
from selfrepair.app.data.tokens import (
    CLEAN,
    CONTEXT,
    EFFECTS,
    NEUTRAL,
    heads_at_position,
    prompt_rows,
    rows_with_token,
    top_rows,
    where_label,
)
from selfrepair.app.wording.columns import column, meaning, title, words
from selfrepair.app.wording.escape import escape_markdown
from selfrepair.app.wording.whitespace import possible_texts, show_whitespace, whitespace_column
from selfrepair.warehouse.schema import NEXT_TOKEN

SOURCES = dict.fromkeys(EFFECTS, "self_repair") | dict.fromkeys(CLEAN, "tokens")
MEASURES = [name for name in SOURCES if name != "clean_rank"]
FULL_AT = {"logits": 2.0, "ratio": 0.1, "nats": 8.0}
"""Default saturation of a fixed colour scale, by unit."""

ORDERS = {"strongest": "direct_effect DESC", "most repaired": "self_repair DESC", "made worse": "self_repair"}
BY_TOKEN = "with a token"
MAX_LISTED = 20
MAX_FOUND = 100
MAX_PINNED = 100


def pinned_words() -> list[str]:
    """The words of the widget or link that should be pinned positions."""
    return re.findall(r"[^\s,;]+", chosen("pinned") or "")


def is_position(word: str) -> bool:
    """True for a whole number from 0 on that can be a position."""
    return re.fullmatch(r"[0-9]{1,6}", word) is not None


def pinned_positions() -> list[int]:
    """The pinned positions, in the order of pinning."""
    return list(dict.fromkeys(map(int, filter(is_position, pinned_words()))))[:MAX_PINNED]


def pin(positions: list[int]) -> None:
    """Pin these positions, and list the heads at the last of them."""
    choose("pinned", ",".join(map(str, positions)) or None)
    choose("at", str(positions[-1]) if positions else None)


def pin_clicked() -> None:
    """Pin the positions clicked in the text."""
    clicked = st.session_state["text"].pin
    if clicked is not None:
        pin([int(position) for position in clicked])


def go_to(prompt: int, positions: list[int]) -> None:
    """Show a prompt with these positions pinned."""
    choose("prompt", str(prompt))
    pin(positions)


def go_to_row(rows: pl.DataFrame, table: str) -> None:
    """Show the prompt of the selected row of a table, with its position pinned."""
    for row in st.session_state[table]["selection"]["rows"]:
        prompt, pos = rows["prompt_id"][row], rows["pos"][row]
        others = pinned_positions() if prompt == st.session_state["prompt"] else []
        go_to(prompt, [*(other for other in others if other != pos), pos])


def select_head(rows: pl.DataFrame, table: str) -> None:
    """Choose the head of the selected row of a table."""
    for row in st.session_state[table]["selection"]["rows"]:
        choose("head", rows["label"][row])


def table_config(frame: pl.DataFrame) -> dict[str, Any]:
    """Streamlit's `column_config`: names with units, meanings as help."""
    shown: dict[str, Any] = {}
    for name in frame.columns:
        view = "self_repair" if name == "label" else SOURCES.get(name, "tokens")
        if name == "context":
            shown[name] = st.column_config.Column("Context", help=f"The last {CONTEXT} tokens up to the source token")
        elif name in MEASURES:
            shown[name] = st.column_config.NumberColumn(title(view, name), help=meaning(view, name), format="%.4f")
        else:
            heading = "Head" if name == "label" else title(view, name)
            shown[name] = st.column_config.Column(heading, help=meaning(view, name))
    return shown


def with_whitespace(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with signs for whitespace in its texts."""
    texts = [name for name in ("context", "token", "target") if name in frame.columns]
    return frame.with_columns(whitespace_column(name) for name in texts)


def heads_to_choose(choice: Choice) -> pl.DataFrame:
    """The run's heads, also of a run without summaries, whose rows can be shown all the same."""
    heads = run_heads(choice)
    if not heads.is_empty():
        return heads
    of_run = f"SELECT unnest(selected_heads) AS label\nFROM runs\nWHERE run_id = {choice.run['run_id']}"
    return query_frame(of_run).with_columns(mean_direct_effect=pl.lit(None, pl.Float64))


def choose_prompt(run_id: int) -> int:
    """Draw the widgets of the prompt; a loaded prompt of the run. Ends the page when there is none."""
    from_prompts = f"FROM prompts\nWHERE run_id = {run_id}"
    (known,) = query_frame(
        f"SELECT min(prompt_id) AS first, max(prompt_id) AS last, count(*) AS n_prompts\n{from_prompts}"
    ).to_dicts()
    first, last, n_prompts = known.values()
    if not n_prompts:
        st.info("No prompts of this run are loaded yet. Load its part files: `selfrepair load FOLDER`.")
        st.stop()
    prompt = linked_whole_number(
        "Prompt",
        "prompt",
        first,
        last,
        noun="prompt",
        on_choice=lambda _: pin([]),
        help=f"{column('prompts', 'prompt_id').comment}. This run has {n_prompts:,}, from {first} to {last}.",
        width=150,
    )
    (neighbours,) = query_frame(
        f"SELECT\n    max(prompt_id) FILTER (prompt_id < {prompt}) AS previous,\n"
        f"    min(prompt_id) FILTER (prompt_id > {prompt}) AS next,\n"
        f"    count(*) FILTER (prompt_id = {prompt}) AS n_here\n{from_prompts}"
    ).to_dicts()
    for name, icon in (("previous", "navigate_before"), ("next", "navigate_next")):
        st.button(
            name.capitalize(),
            key=f"{name} prompt",
            icon=f":material/{icon}:",
            disabled=neighbours[name] is None,
            on_click=go_to,
            args=(neighbours[name], []),
        )
    if not neighbours["n_here"]:
        st.info(f"Prompt {prompt} is not loaded yet; use the buttons to go to the previous or next loaded one.")
        st.stop()
    return prompt


choice = choose_run()
effects = list(filter(choice.has, EFFECTS))
st.title("Tokens")
with st.container(horizontal=True, vertical_alignment="bottom"):
    label = choose_head(heads_to_choose(choice))
    prompt = choose_prompt(choice.run["run_id"])
    measure = linked_selectbox(
        "Colour",
        list(filter(choice.has, MEASURES)),
        "colour",
        words,
        first="self_repair",
        noun="number to colour by",
        help="The number that colours each token. Hover over a token for all of its numbers.",
        width=240,
    )
where_head = where_label(choice.where_rows, label)
fields = {
    name: Field(name, words(name), column(view, name).unit, NEUTRAL.get(name, 0.0))
    for name, view in SOURCES.items()
    if choice.has(name)
}
shown = fields[measure]
strength = measure if measure in EFFECTS else "direct_effect"
largest_first = f"sorted by |{title('self_repair', strength)}|"

with st.container(horizontal=True, vertical_alignment="bottom"):
    coloured = linked_segments(
        "Colour at",
        ["target token", "source token"],
        "coloured",
        help="A row is one prediction: from the source token, the model predicts the next one, its target.",
    )
    scale = linked_segments(
        "Colours saturate at",
        ["largest value", "fixed value"],
        "scale",
        help="Largest value: of this prompt. With a fixed value, colours are comparable between prompts and heads.",
    )
    fixed = None
    if scale == "fixed value":
        fixed = linked_number(
            f"Value [{shown.unit}]",
            f"max_{shown.unit}",
            0.0001,
            FULL_AT[shown.unit],
            format="%.4g",
            help=f"The distance from {shown.neutral:g} at which colours saturate.",
            width=140,
        )
    linked_text(
        "Pinned positions",
        "pinned",
        placeholder="click tokens, or 3,17",
        help="Positions of source tokens, compared below in the order of pinning.",
        width=200,
    )

sql = prompt_rows(where_head, prompt, effects=effects)
rows = query_frame(sql)
if rows.is_empty():
    st.info(
        f"Prompt {prompt} has no rows of {label} under {choice.ablation} ablation. See what is loaded: `selfrepair runs`."
    )
    st.stop()
positions = rows["pos"].to_list()
pinned = [pos for pos in pinned_positions() if pos in positions]
missing = [str(pos) for pos in pinned_positions() if pos not in positions]
invalid = [word for word in pinned_words() if not is_position(word)]
if invalid:
    say(f"Pinned positions are whole numbers such as 3,17; ignored: {escape_markdown(', '.join(invalid)[:100])}")
if missing:
    say(f"This prompt has positions {positions[0]} to {positions[-1]}; {', '.join(missing)} cannot be pinned.")

of_prediction = "its own prediction" if coloured == "target token" else "the prediction from it"
st.caption(
    f"{label} ablated ({choice.ablation}). The colour of a token is that of {of_prediction}. "
    f"{meaning(SOURCES[measure], measure)}."
)
if choice.run["logit_of"] != NEXT_TOKEN:
    text_sql = f"SELECT text\nFROM prompts\nWHERE run_id = {choice.run['run_id']} AND prompt_id = {prompt}"
    st.caption("Only the answer is scored. The whole prompt, with its answer:")
    st.code(query_frame(text_sql)["text"].item(), language=None, wrap_lines=True)
show_tokens(
    token_data(
        rows,
        list(fields.values()),
        shown,
        fixed or largest(rows[measure], shown.neutral),
        by_target=coloured == "target token",
        pinned=pinned,
    ),
    key="text",
    on_pin=pin_clicked,
)
on_prompt = About(head=label, population="all", n=f"{rows.height:,} rows of prompt {prompt}")
data_popover(rows, sql, name="prompt_tokens", about=on_prompt)

pinned_part = st.container()
if pinned:
    with pinned_part:
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.subheader("Pinned tokens")
            st.button("Unpin all", icon=":material/keep_off:", on_click=pin, args=([],))
        order = pl.DataFrame({"pos": pinned}, schema={"pos": rows.schema["pos"]})
        compared = order.join(rows, on="pos", maintain_order="left")
        st.dataframe(with_whitespace(compared), hide_index=True, column_config=table_config(compared))
        data_popover(compared, prompt_rows(where_head, prompt, pinned, effects), name="pinned_tokens", about=on_prompt)

        st.subheader("Strongest heads at a pinned token")
        names = [str(pos) for pos in pinned]
        with st.container(horizontal=True, vertical_alignment="bottom"):
            at = linked_selectbox(
                "At position",
                names,
                "at",
                first=names[-1],
                noun="pinned position",
                help="A pinned position.",
                width=140,
            )
            (there,) = compared.filter(pl.col("pos") == int(at)).select("token", "target").rows()
            st.text(f"{show_whitespace(there[0])}  →  {show_whitespace(there[1])}")
        st.caption(f"All heads, {largest_first}. Select a row to see the prompt for that head.")
        sql = heads_at_position(choice.where_rows, prompt, int(at), strength, effects)
        heads = query_frame(sql)
        table = f"heads at {prompt} {at} {strength} {choice.where_rows}"
        st.dataframe(
            heads,
            hide_index=True,
            height=280,
            column_config=table_config(heads),
            key=table,
            on_select=partial(select_head, heads, table),
            selection_mode="single-row",
        )
        at_token = About(population="all", n=f"one row of each head, at position {at} of prompt {prompt}")
        data_popover(heads, sql, name="heads_at_token", about=at_token)

st.subheader("Go to")
with st.container(horizontal=True, vertical_alignment="bottom"):
    find = linked_segments(f"Rows of {label}", [*ORDERS, BY_TOKEN], "find")
    if find == BY_TOKEN:
        role = linked_segments("Token is", ["target token", "source token"], "role")
        match = linked_segments("Match", ["whole token", "part of it"], "match")
        typed = linked_text(
            "Token",
            "token",
            max_chars=100,
            placeholder="·the",
            help="Including its whitespace, which can be typed as signs: · for a space, ⏎ for a line break, ⇥ for a tab.",
            width=220,
        )
if find != BY_TOKEN:
    st.caption(f"Rows used: {POPULATIONS[choice.population]}. Select a row to go to it.")
    sql = top_rows(where_label(choice.where, label), ORDERS[find], MAX_LISTED)
elif typed:
    st.caption(f"Rows used: all, {largest_first}. Select a row to go to it.")
    text_column = "target" if role == "target token" else "token"
    sql = rows_with_token(where_head, text_column, possible_texts(typed), match == "whole token", strength, MAX_FOUND)
else:
    st.caption("Type a token to find rows with it.")
    st.stop()
found = query_frame(sql)
if found.is_empty():
    st.info(
        "No such token. Whitespace counts; or match a part of it."
        if find == BY_TOKEN
        else "This run has no summaries yet: run `selfrepair refresh`."
    )
    st.stop()
table = f"found {label} {find} {choice.where}" + (f" {role} {match} {typed}" if find == BY_TOKEN else "")
st.dataframe(
    with_whitespace(found),
    hide_index=True,
    column_config=table_config(found),
    key=table,
    on_select=partial(go_to_row, found, table),
    selection_mode="single-row",
)
of_found = About(
    head=label, population="all" if find == BY_TOKEN else choice.population, n=f"{found.height:,} rows, the first"
)
data_popover(found, sql, name="found_rows", about=of_found)
