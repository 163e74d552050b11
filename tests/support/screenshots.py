"""Pictures of every page, light and dark: `python -m support.screenshots WAREHOUSE FOLDER`, in the folder `tests`.

The README's are `heads.png`, `tokens.png` and `mechanisms.png` of `python -m support.screenshots demo.duckdb FOLDER`; that of
`make real` is `real-model.png` of `python -m support.screenshots real.duckdb FOLDER real`.
"""

import sys
from pathlib import Path
from typing import Literal

from support.browser import PAGES, Watched, launched, served

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SETTLED_MS = 1_500
README = {
    "heads": ("heads", 980),
    "tokens": ("tokens?prompt=183&pinned=54,61&head=L4H2", 980),
    "mechanisms": ("components", 980),
}
"""Pictures of the README: what is opened, and how high the picture is [pixels]."""

REAL = {"real-model": ("components", 980)}
"""The same of `docs/real-model.md`."""


def screenshots(db: Path, folder: Path) -> list[Path]:
    """Write `<page>-<scheme>.png` into `folder`; the files. Fails where anything goes wrong on a page."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with served(db) as address, launched() as browser:
        for scheme in SCHEMES:
            for name in PAGES:
                watched = Watched(browser, address, scheme)
                page = watched.open(name)
                page.wait_for_timeout(SETTLED_MS)  # pictures draw themselves after the script has ended
                height = page.get_by_test_id("stMain").evaluate("element => element.scrollHeight")
                page.set_viewport_size({"width": 1400, "height": max(1000, height)})
                page.wait_for_timeout(SETTLED_MS)
                files.append(folder / f"{name}-{scheme}.png")
                page.screenshot(path=files[-1])
                watched.check()
                watched.close()
    return [*files, *pictures(db, folder, README)]


def pictures(db: Path, folder: Path, wanted: dict[str, tuple[str, int]]) -> list[Path]:
    """Write the pictures that are wanted into `folder`; the files."""
    files = []
    with served(db) as address, launched() as browser:
        for name, (link, height) in wanted.items():
            watched = Watched(browser, address)
            watched.page.set_viewport_size({"width": 1400, "height": height})
            watched.open(link).wait_for_timeout(SETTLED_MS)
            files.append(folder / f"{name}.png")
            watched.page.screenshot(path=files[-1])
            watched.close()
    return files


if __name__ == "__main__":
    warehouse, to, *real = sys.argv[1:]
    made = pictures(Path(warehouse), Path(to), REAL) if real else screenshots(Path(warehouse), Path(to))
    for file in made:
        print(file)
