"""Draw docs/pictures/architecture.svg from the code: the four folders, their wings, and which imports which.

Run it with `python docs/tools/architecture_picture.py`; `make docs` does. Descriptions are the first lines of the wings'
own docstrings, and imports are read with `ast`, so that the picture cannot disagree with the code.
"""

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "pictures" / "architecture.svg"
FOLDERS = ("ingest", "warehouse", "queries", "app")
FLOW = "model + text", "part files", "tables", "views", "pages, terminal"
"""What flows into the first folder, from each to the next, and out of the last."""

WIDTH, GAP, MARGIN = 316, 36, 24
LINE, PAD, TOP, HEADER, LANE = 15, 9, 62, 92, 34
CHARACTERS = 40
"""Characters of a description on one line of a box."""

STYLE = (
    "text{font:12px 'DejaVu Sans',Verdana,sans-serif;fill:#222}"
    ".folder{font-size:17px;font-weight:bold}.wing{font-size:13px;font-weight:bold}"
    ".flow{fill:#1f5fa8}.small{font-size:11px;fill:#666}.over{stroke:#fff;stroke-width:5px;paint-order:stroke}"
)


class Wing(NamedTuple):
    """One entry of a folder: a sub-package, a module, or a folder of data files."""

    name: str
    text: str
    imports: tuple[str, ...]
    """Wings of the same folder that it imports."""


def wings(folder: str) -> list[Wing]:
    """The wings of a folder in the order of imports: one stands below all that it imports. Data folders come last."""
    names = [name for name in _paths(folder) if any(_modules(_paths(folder)[name]))]
    found = {name: Wing(name, _docstring(_paths(folder)[name]), _imports(folder, name)) for name in names}

    def height(name: str, *above: str) -> int:
        lower = [wing for wing in found[name].imports if wing not in above]
        return 1 + max((height(wing, name, *above) for wing in lower), default=0)

    code = sorted(found.values(), key=lambda wing: (height(wing.name), wing.name))
    data = [
        Wing(f"{name}/", text, ()) for name in _paths(folder) if name not in found and (text := _files(folder, name))
    ]
    return code + data


def folder_imports() -> dict[tuple[str, str], list[str]]:
    """For each pair of folders (importer, imported), the imported wings."""
    pairs: dict[tuple[str, str], set[str]] = {}
    for importer in FOLDERS:
        for path in _modules(ROOT / importer):
            for folder, wing in _targets(path):
                if folder != importer:
                    pairs.setdefault((importer, folder), set()).add(wing)
    return {pair: sorted(found) for pair, found in pairs.items()}


def picture() -> str:
    """The SVG."""
    columns = [wings(folder) for folder in FOLDERS]
    heights = [[_box_height(wing) for wing in column] for column in columns]
    depth = max(sum(column) + PAD * len(column) for column in heights) + HEADER + 2
    parts = []
    for i, folder in enumerate(FOLDERS):
        left = MARGIN + i * (WIDTH + GAP)
        parts += [
            f'<rect x="{left}" y="{TOP}" width="{WIDTH}" height="{depth}" rx="8" fill="#f3f6fa" stroke="#9db2c9"/>',
            f'<text class="folder" x="{left + 12}" y="{TOP + 26}">{folder}/</text>',
            *_lines(_docstring(ROOT / folder), left + 12, TOP + 44, "small"),
        ]
        y = TOP + HEADER
        for wing, height in zip(columns[i], heights[i], strict=True):
            parts += _box(wing, left + 10, y, height)
            y += height + PAD
    bottom = TOP + depth
    pairs = folder_imports()
    parts += _data_flow()
    for lane, ((importer, imported), names) in enumerate(sorted(pairs.items(), key=_distance)):
        parts += _import_arrow(importer, imported, names, bottom, bottom + LANE * (lane + 1), lane)
    width = 2 * MARGIN + len(FOLDERS) * (WIDTH + GAP) - GAP
    height = bottom + LANE * (len(pairs) + 1)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        "<title>The four folders, their wings and their imports</title>"
        f"<style>{STYLE}</style>"
        '<defs><marker id="tip" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto" '
        'markerUnits="userSpaceOnUse"><path d="M0,0 L9,4 L0,8 Z" fill="context-stroke"/></marker></defs>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def _paths(folder: str) -> dict[str, Path]:
    """What lies in a folder by its name as a wing."""
    inside = sorted((ROOT / folder).iterdir())
    return {path.stem: path for path in inside if not path.name.startswith(("_", "."))}


def _modules(path: Path) -> list[Path]:
    return [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))


def _docstring(path: Path) -> str:
    """The first sentence of a module's or package's docstring."""
    module = path / "__init__.py" if path.is_dir() else path
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".").replace("`", "")


def _files(folder: str, name: str) -> str:
    """How many data files lie in a folder without code, and in which sub-folders."""
    path = ROOT / folder / name
    files = [file for file in path.rglob("*") if file.suffix in {".sql", ".csv"}] if path.is_dir() else []
    topics = sorted({file.parent.name for file in files if file.parent != path})
    kinds = " and ".join(sorted({file.suffix[1:].upper() for file in files}))
    where = f", by topic: {', '.join(topics)}" if topics else ""
    return f"{len(files)} {kinds} files{where}" if files else ""


def _targets(path: Path) -> Iterator[tuple[str, str]]:
    """(folder, wing) of every import of this package in a module, at its top or inside its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("selfrepair."):
            _, folder, *rest = node.module.split(".")
            if rest:
                yield folder, rest[0]
            else:
                known = _paths(folder) if folder in FOLDERS else {}
                yield from ((folder, alias.name if alias.name in known else "") for alias in node.names)


def _imports(folder: str, wing: str) -> tuple[str, ...]:
    modules = _modules(_paths(folder)[wing])
    found = {name for path in modules for where, name in _targets(path) if where == folder}
    return tuple(sorted(found - {wing, ""}))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, CHARACTERS, break_on_hyphens=False)


def _lines(text: str, x: int, y: int, style: str) -> list[str]:
    return [
        f'<text class="{style}" x="{x}" y="{y + i * LINE}">{escape(line)}</text>'
        for i, line in enumerate(_wrapped(text))
    ]


def _uses(wing: Wing) -> str:
    return f"imports {', '.join(wing.imports)}" if wing.imports else ""


def _box_height(wing: Wing) -> int:
    return 24 + LINE * (len(_wrapped(wing.text)) + len(_wrapped(_uses(wing)))) + 5


def _box(wing: Wing, x: int, y: int, height: int) -> list[str]:
    text = _wrapped(wing.text)
    return [
        f'<rect x="{x}" y="{y}" width="{WIDTH - 20}" height="{height}" rx="5" fill="#fff" stroke="#c9d3de"/>',
        f'<text class="wing" x="{x + 8}" y="{y + 18}">{escape(wing.name)}</text>',
        *_lines(wing.text, x + 8, y + 18 + LINE, ""),
        *_lines(_uses(wing), x + 8, y + 18 + LINE * (1 + len(text)), "small"),
    ]


def _data_flow() -> list[str]:
    """One arrow above all folders, with what flows where it passes from one to the next."""
    y, end = 34, MARGIN + len(FOLDERS) * (WIDTH + GAP) - GAP
    places = [MARGIN + i * (WIDTH + GAP) - GAP / 2 for i in range(1, len(FOLDERS))]
    words = [(MARGIN, "start"), *((place, "middle") for place in places), (end - 12, "end")]
    return [
        f'<line x1="{MARGIN}" y1="{y}" x2="{end}" y2="{y}" stroke="#1f5fa8" stroke-width="2" marker-end="url(#tip)"/>',
        *(
            f'<text class="flow" x="{x:g}" y="{y - 9}" text-anchor="{anchor}">{word}</text>'
            for (x, anchor), word in zip(words, FLOW, strict=True)
        ),
    ]


def _distance(pair: tuple[tuple[str, str], list[str]]) -> tuple[int, str, str]:
    (importer, imported), _ = pair
    return abs(FOLDERS.index(importer) - FOLDERS.index(imported)), importer, imported


def _import_arrow(importer: str, imported: str, names: list[str], top: int, y: int, lane: int) -> list[str]:
    """From below the importing folder along its own lane to below the imported one."""
    start, end = (MARGIN + FOLDERS.index(name) * (WIDTH + GAP) + WIDTH // 2 for name in (importer, imported))
    start, end = start + 14 * (lane - 1), end + 14 * (lane - 1)
    words = f"{importer} imports {imported}: {', '.join(name for name in names if name)}"
    return [
        f'<path d="M{start},{top} V{y} H{end} V{top}" fill="none" stroke="#777" marker-end="url(#tip)"/>',
        f'<text class="small over" x="{min(start, end) + 10}" y="{y + 13}">{escape(words)}</text>',
    ]


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
