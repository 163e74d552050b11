"""The list of pages for language models."""

import re

import yaml

from support.documents import ROOT


def test_every_page_is_listed_once_for_language_models() -> None:
    text = (ROOT / "docs" / "llms.txt").read_text(encoding="utf-8")
    listed = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): \S", text, re.MULTILINE)
    nav = yaml.safe_load(re.sub(r"!!\S+", "", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))["nav"]
    pages: list[str] = []
    for entry in nav:
        (found,) = entry.values()
        pages += [found] if isinstance(found, str) else [page for each in found for page in each.values()]
    assert sorted(listed) == sorted(pages)
    assert text.startswith("# selfrepair\n\n> ")
