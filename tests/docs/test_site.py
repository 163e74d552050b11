"""The documentation as a site, the architecture picture and the citation file."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support.documents import ROOT

TOOLS = ROOT / "docs" / "tools"
LOADED = re.compile(r"""<(?:script|img|link|iframe)[^>]*(?:src|href)=["']?(https?:)?//[^>]*>""")


@pytest.fixture
def mkdocs() -> None:
    pytest.importorskip("mkdocs", reason="building the site needs the docs extra")


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file", str(config), "--site-dir", str(site)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"NO_MKDOCS_2_WARNING": "1"})


@pytest.mark.usefixtures("mkdocs")
@pytest.mark.slow
def test_the_site_builds_without_a_broken_link_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = build(ROOT / "mkdocs.yml", tmp_path)
    assert done.returncode == 0, done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert {"index.html", "glossary.html", "changelog.html"} <= {page.name for page in pages}
    assert [match[0] for page in pages for match in LOADED.finditer(page.read_text(encoding="utf-8"))] == []
    assert (tmp_path / "pictures" / "architecture.svg").is_file()


@pytest.mark.usefixtures("mkdocs")
def test_broken_links_fail_the_build(tmp_path: Path) -> None:
    links = "[x](nowhere.md) [x](speed.md#nowhere) ![x](pictures/none.png)"
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# One\n\n{links}\n")
    (tmp_path / "docs" / "speed.md").write_text("# Two\n")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    settings = re.sub(r"^(nav|hooks):\n(?: .*\n)+", "", settings, flags=re.MULTILINE)
    (tmp_path / "mkdocs.yml").write_text(settings)
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 1
    assert "3 warnings in strict mode" in done.stdout + done.stderr


def test_the_architecture_picture_is_drawn_from_the_code_as_it_is() -> None:
    code = "import architecture_picture as drawn, sys; sys.exit(drawn.PICTURE.read_text() != drawn.picture())"
    done = subprocess.run([sys.executable, "-c", code], cwd=TOOLS, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"run make docs {done.stderr}"


def test_the_citation_names_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
