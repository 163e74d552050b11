"""A prompt as coloured text whose tokens show numbers and can be pinned: the component, and its data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import streamlit as st


@dataclass(frozen=True)
class Field:
    """A number of a row as it is shown. `neutral` is the value of no effect, which has no colour."""

    column: str
    title: str
    unit: str
    neutral: float = 0.0


def largest(values: pl.Series, neutral: float) -> float:
    """The greatest distance from `neutral`, in the values' unit; 1 instead of 0, so that it can be divided by."""
    distance = (values.cast(pl.Float64) - neutral).abs().max()
    return float(distance) if isinstance(distance, float) and distance > 0 else 1.0


def token_data(
    rows: pl.DataFrame, fields: Sequence[Field], shown: Field, scale: float, *, by_target: bool, pinned: Sequence[int]
) -> dict[str, Any]:
    """The component's data. `rows` are a prompt's, in order of pos, with token, target and the fields' columns.

    A row belongs to two tokens, its source token and the next one, its target. `by_target` colours the target. `scale` is
    the distance from neutral at which a colour saturates, in the unit of `shown`.
    """
    tokens = [*rows["token"], *rows["target"][-1:]]
    numbers = list(range(rows.height))
    row_of = [None, *numbers] if by_target else [*numbers, None]
    shades = ((rows[shown.column].cast(pl.Float64) - shown.neutral) / scale).clip(-1, 1).fill_nan(None)
    return {
        "tokens": tokens,
        "targets": rows["target"].to_list(),
        "positions": rows["pos"].to_list(),
        "row_of": row_of,
        "by_target": by_target,
        "shades": shades.to_list(),
        "fields": [{"title": field.title, "unit": field.unit, "shown": field is shown} for field in fields],
        "numbers": [_formatted(rows[field.column]) for field in fields],
        "pinned": list(pinned),
        "legend": {
            "title": f"{shown.title} [{shown.unit}]",
            "ends": [f"{shown.neutral + sign * scale:.4g}" for sign in (-1, 1)],
            "neutral": f"{shown.neutral:g}",
        },
    }


def show_tokens(data: dict[str, Any], *, key: str, on_pin: Callable[[], None]) -> None:
    """Draw `data`, from `token_data`. After a click or Enter, `st.session_state[key].pin` is the list of pinned positions.

    The last one is the newest; `on_pin` is called before the page runs again.
    """
    # registered in every run: each server and each test has its own registry
    component = st.components.v2.component("selfrepair_tokens", html=_HTML, css=_CSS, js=_JS)
    component(key=key, data=data, on_pin_change=on_pin)


def _formatted(values: pl.Series) -> list[str]:
    if values.dtype.is_integer():
        return ["NULL" if value is None else f"{value:,}" for value in values]
    return ["NULL" if value is None else f"{value:.4f}" for value in values]


_HTML = """
<div class="legend"><span class="title"></span><span class="low"></span><span class="bar"></span>
<span class="high"></span></div>
<div class="text" role="listbox" aria-multiselectable="true" aria-label="The prompt's tokens"></div>
<div class="hint">Hover over a token, or move with the arrow keys, for its numbers; click or press Enter to pin it.</div>
<div class="card" role="tooltip" id="card" popover="manual"></div>
"""

_CSS = """
:host, .text, .card, .legend, .hint { color: var(--st-text-color); font-family: var(--st-font); }
.legend { display: flex; align-items: center; gap: .5rem; font-size: .8rem; margin-bottom: .5rem; flex-wrap: wrap; }
.legend .title { font-weight: 600; margin-right: .25rem; }
.bar { position: relative; width: 10rem; height: .8rem; border-radius: 3px; margin-bottom: 0;
  background: linear-gradient(to right, rgba(74,144,217,.8), rgba(74,144,217,0) 50%,
    rgba(217,115,26,0) 50%, rgba(217,115,26,.8));
  box-shadow: inset 0 0 0 1px var(--st-border-color, #8884); }
.bar::after { content: attr(data-neutral); position: absolute; left: 50%; transform: translateX(-50%);
  line-height: .8rem; font-size: .65rem; }
.hint { font-size: .75rem; opacity: .65; margin-top: .4rem; }
.text { font-family: var(--st-code-font, monospace); font-size: .875rem; line-height: 1.75; white-space: pre-wrap;
  overflow-wrap: anywhere; max-height: 34rem; overflow-y: auto; padding: .5rem .6rem; tab-size: 4;
  border: 1px solid var(--st-border-color, #8884); border-radius: var(--st-base-radius, .5rem); }
.token { cursor: pointer; padding: .15rem 0; border-radius: 2px; unicode-bidi: isolate; outline-offset: -1px;
  box-decoration-break: clone; -webkit-box-decoration-break: clone;
  box-shadow: inset -1px 0 0 var(--st-background-color, #fff); }
.token.bare { cursor: default; opacity: .55; }
.token:hover { text-decoration: underline; text-underline-offset: .25em; }
.token[aria-selected="true"] { outline: 2px solid var(--st-text-color); }
.token:focus-visible { outline: 2px dashed var(--st-primary-color); }
.token[aria-selected="true"]:focus-visible { outline-style: solid; outline-color: var(--st-primary-color); }
.blank { position: relative; }
.blank::before { opacity: .4; }
.space::before { content: "·"; position: absolute; }
.tab::before { content: "⇥"; position: absolute; }
.line::before { content: "⏎"; }
.sign { opacity: .6; font-size: .8em; }
.card { margin: 0; inset: auto; position: fixed; z-index: 1000000; pointer-events: none; max-width: 24rem;
  padding: .5rem .7rem; font-size: .78rem; line-height: 1.45; overflow: hidden;
  background: var(--st-background-color, #fff); border: 1px solid var(--st-border-color, #888);
  border-radius: var(--st-base-radius, .5rem); box-shadow: 0 4px 14px rgba(0,0,0,.25); }
.card:not(:popover-open) { display: none; }
.card .pair { font-family: var(--st-code-font, monospace); white-space: pre-wrap; overflow-wrap: anywhere;
  font-size: .85rem; margin-bottom: .3rem; }
.card .pair b { text-decoration: underline; text-underline-offset: .25em; }
.card .where { opacity: .7; margin-bottom: .35rem; }
.card .row { display: grid; grid-template-columns: 1fr 5.2rem 3.2rem; column-gap: .5rem; }
.card .row.shown { font-weight: 700; }
.card .number { text-align: right; font-variant-numeric: tabular-nums; }
.card .unit { opacity: .7; }
"""

# Token texts reach the page only as textContent, so that no token can be markup.
_JS = r"""
const KINDS = { " ": "blank space", "\t": "blank tab", "\n": "blank line" };
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;
const ORANGE = "217,115,26", BLUE = "74,144,217", FULL = 0.8;

function element(kind, name, text) {
  const made = document.createElement(kind);
  made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

/* Whitespace is kept, with a sign added by the style sheet; other invisible characters are spelled out. */
function write(into, text) {
  let pending = "";
  const flush = () => { if (pending) into.append(pending); pending = ""; };
  for (const character of text) {
    if (KINDS[character]) { flush(); into.append(element("span", KINDS[character], character)); }
    else if (UNSEEN.test(character)) {
      flush();
      into.append(element("span", "sign", "[U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0") + "]"));
    } else pending += character;
  }
  flush();
  if (!text) into.append(element("span", "sign", "[empty]"));
}

function inOneLine(text) {
  return text.replaceAll(" ", "·").replaceAll("\n", "⏎").replaceAll("\t", "⇥");
}

function fill(card, data, place) {
  card.replaceChildren();
  const row = data.row_of[place];
  if (row === null) {
    const why = place === 0 ? "Nothing predicts the first token." : "The token after the last one is unknown.";
    card.append(element("div", "where", why));
    return;
  }
  const pair = element("div", "pair");
  const ends = [data.tokens[row], data.targets[row]];
  ends.forEach((text, end) => {
    const written = element(end === Number(data.by_target) ? "b" : "span", "");
    write(written, inOneLine(text));
    if (end) pair.append("  →  ");
    pair.append(written);
  });
  const pos = data.positions[row];
  card.append(pair, element("div", "where", `position ${pos}, which predicts position ${pos + 1}`));
  data.fields.forEach((field, index) => {
    const line = element("div", field.shown ? "row shown" : "row");
    line.append(element("span", "", field.title), element("span", "number", data.numbers[index][row]),
      element("span", "unit", field.unit));
    card.append(line);
  });
}

function put(card, token) {
  if (card.showPopover && !card.matches(":popover-open")) card.showPopover();
  const at = token.getClientRects()[0], room = 8;
  if (!at) return;
  const left = Math.min(at.left, document.documentElement.clientWidth - card.offsetWidth - room);
  const below = at.bottom + room, above = at.top - room - card.offsetHeight;
  card.style.left = Math.max(room, left) + "px";
  card.style.top = (below + card.offsetHeight < window.innerHeight || above < 0 ? below : above) + "px";
}

export default function ({ data, parentElement, setTriggerValue }) {
  const find = (name) => parentElement.querySelector(name);
  const text = find(".text"), card = find(".card");
  const texts = JSON.stringify(data.tokens);
  if (text.texts !== texts) {
    const spans = data.tokens.map((token, place) => {
      const span = element("span", "token");
      span.dataset.place = place;
      span.setAttribute("role", "option");
      span.tabIndex = place ? -1 : 0;
      write(span, token);
      return span;
    });
    text.replaceChildren(...spans);
    text.texts = texts;
    text.scrollTop = 0;
    text.newPrompt = true;
  }
  const spans = [...text.children];
  let pinned = [...data.pinned];
  const mark = () => spans.forEach((span, place) => {
    const row = data.row_of[place];
    span.setAttribute("aria-selected", row !== null && pinned.includes(data.positions[row]));
  });
  spans.forEach((span, place) => {
    const row = data.row_of[place], shade = row === null ? null : data.shades[row];
    span.classList.toggle("bare", row === null);
    span.style.backgroundColor = shade ? `rgba(${shade < 0 ? BLUE : ORANGE},${(Math.abs(shade) * FULL).toFixed(3)})` : "";
  });
  mark();
  if (text.newPrompt && pinned.length) {
    const newest = spans.find((span, place) => data.positions[data.row_of[place]] === pinned.at(-1));
    if (newest) text.scrollTop = newest.offsetTop - text.offsetTop - text.clientHeight / 2;
  }
  text.newPrompt = false;

  find(".legend .title").textContent = data.legend.title;
  find(".legend .low").textContent = data.legend.ends[0];
  find(".legend .high").textContent = data.legend.ends[1];
  find(".legend .bar").dataset.neutral = data.legend.neutral;

  const hide = () => { if (card.hidePopover && card.matches(":popover-open")) card.hidePopover(); };
  const read = (event) => {
    const span = event.target.closest(".token");
    if (!span) return hide();
    fill(card, data, Number(span.dataset.place));
    put(card, span);
    return span;
  };
  const toggle = (span) => {
    const row = data.row_of[Number(span.dataset.place)];
    if (row === null) return;
    const pos = data.positions[row];
    pinned = pinned.includes(pos) ? pinned.filter((other) => other !== pos) : [...pinned, pos];
    mark();
    setTriggerValue("pin", pinned);
  };
  const go = (place) => {
    const span = spans[Math.max(0, Math.min(spans.length - 1, place))];
    spans.forEach((other) => { other.tabIndex = other === span ? 0 : -1; });
    span.focus();
  };
  text.onmouseover = read;
  text.onmouseleave = hide;
  text.onscroll = hide;
  text.onclick = (event) => {
    const span = event.target.closest(".token");
    if (span) { go(Number(span.dataset.place)); toggle(span); }
  };
  text.onkeydown = (event) => {
    const span = event.target.closest(".token");
    if (!span) return;
    const place = Number(span.dataset.place);
    const moves = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: spans.length - 1 };
    if (event.key in moves) go(moves[event.key]);
    else if (event.key === "Enter" || event.key === " ") toggle(span);
    else if (event.key === "Escape") hide();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  if (text.reading) text.removeEventListener("focusin", text.reading);
  text.reading = (event) => {
    const span = read(event);
    if (span) span.setAttribute("aria-label", card.innerText.replaceAll("\n", " "));
  };
  text.addEventListener("focusin", text.reading);
  if (text.leaving) text.removeEventListener("focusout", text.leaving);
  text.leaving = hide;
  text.addEventListener("focusout", hide);
  return hide;
}
"""
