"""MkDocs hook: the documents at the root of the repository are pages of the site, too, with their links adjusted."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files at the root by their name in the site."""

TEXTS = {"CITATION.cff": "citation.cff"}
"""Files at the root that pages link to as they are."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those of docs/."""
    for source, name in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=_for_the_site(text)))
    for source, name in TEXTS.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    return files


def _for_the_site(text: str) -> str:
    """The same text with links from docs/ instead of from the root."""
    for source, name in {**PAGES, **TEXTS}.items():
        text = text.replace(f"]({source})", f"]({name})")
    return re.sub(r"\]\(docs/", "](", text)
