"""The OpenAPI document as one HTML page without scripts: it loads nothing."""

from collections.abc import Mapping
from html import escape
from typing import Any

Json = Mapping[str, Any]

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, .path { font-family: ui-monospace, monospace; font-size: .95em; overflow-wrap: anywhere; }
details { border-top: 1px solid #8885; padding: .4rem 0; }
summary { cursor: pointer; }
table { border-collapse: collapse; margin: .5rem 0 .5rem 1rem; }
td, th { text-align: left; vertical-align: top; padding: .15rem .8rem .15rem 0; }
"""


def shown(document: Json) -> str:
    """The page. Addresses that need no name and no parameter are links."""
    root = document["servers"][0]["url"]
    info = document["info"]
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}: HTTP API</h1>",
        f"<p>{_words(info['description'])}</p>",
        f'<p>The same for programs: <a href="{escape(root)}/openapi.json">openapi.json</a>.</p>',
        "<h2>Addresses</h2>",
        *(
            _operation(root, path, method, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if not path.endswith(".{format}")
        ),
    ]
    head = f'<meta charset="utf-8"><title>selfrepair: HTTP API</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _operation(root: str, path: str, method: str, operation: Json) -> str:
    address = f"{escape(root)}{escape(path)}"
    needed = "{" in path or method != "get" or any(each["required"] for each in operation["parameters"])
    link = address if needed else f'<a href="{address}">{address}</a>'
    rows = "".join(map(_parameter, operation["parameters"]))
    table = f"<table>{rows}</table>" if rows else ""
    heading = f'{method.upper()} <span class="path">{link}</span> {_words(operation["summary"])}'
    return f"<details><summary>{heading}</summary>{table}</details>"


def _parameter(parameter: Json) -> str:
    schema = parameter["schema"]
    kind = " | ".join(map(str, schema["enum"])) if "enum" in schema else schema.get("type", "")
    default = f", {schema['default']} if left out" if "default" in schema else ""
    needed = "needed" if parameter["required"] else ""
    about = f"{parameter['description']} {schema.get('description', '')}"
    cells = (f"<code>{escape(parameter['name'])}</code>", escape(f"{kind}{default}"), needed, _words(about))
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _words(text: str) -> str:
    """Text in which what stands in backquotes is code."""
    pieces = escape(text.strip()).split("`")
    return "".join(f"<code>{piece}</code>" if number % 2 else piece for number, piece in enumerate(pieces))
