"""The pages in a browser: drawn without an error, without a word to another host, and sent by link as they stand."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import polars as pl
import pytest
from playwright.sync_api import Browser, BrowserContext, Download, expect

from selfrepair.app.charts.heads.tails import HEADS
from support.browser import PAGES, Watched, served
from support.fabricate import fabricate
from support.hostile import ADDRESS, HOSTILE
from support.hostile import hostile as hostile_file
from support.loaded import stored

pytestmark = pytest.mark.browser

LINKS_ELSEWHERE = """() => [...document.links].filter((link) => link.origin !== location.origin).map(String)"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the app is served over runs whose model has a name of HTML and Markdown, one of them not loaded."""
    with served(hostile_file(tmp_path_factory.mktemp("hostile"))) as address:
        yield address


@pytest.fixture
def watched_hostile(browser: Browser, hostile: str, visitor: BrowserContext) -> Iterator[Watched]:
    page = Watched(browser, hostile, lent=visitor)
    yield page
    page.check()
    page.close()


def test_a_page_is_drawn_and_asks_no_other_host_whatever_names_it_shows(watched_hostile: Watched) -> None:
    page = watched_hostile.open(PAGES[-1])
    for name in PAGES:
        watched_hostile.go(name)
        title = page.get_by_role("heading", level=1)
        title.wait_for()
        assert page.title()
        assert title.count() == 1, name
        assert page.locator("img[src*='.example']").count() == 0, name
        assert page.evaluate(LINKS_ELSEWHERE) == [], name


def test_names_that_are_html_or_markdown_stay_words_in_charts_links_and_messages(watched_hostile: Watched) -> None:
    watched_hostile.open("sql?sql=FROM+models&as=chart&x=name&y=n_layers")
    page = watched_hostile.open("overview?model=![x](http://c.example/c.png)&run=99")
    page.get_by_text("does not exist here").first.wait_for()
    page = watched_hostile.open(f"heads?model={quote(HOSTILE)}&run={quote(ADDRESS)}")
    page.get_by_text(f"Run '{ADDRESS}' does not exist").wait_for()
    assert page.evaluate(LINKS_ELSEWHERE) == []


def test_a_column_called_image_is_text_in_a_tooltip(watched_hostile: Watched) -> None:
    sql = "SELECT 1 AS x, 2 AS y, 'http://i.example/i.png' AS image, 'https://j.example' AS title"
    page = watched_hostile.open(f"sql?sql={quote(sql)}&as=chart&kind=bars")
    page.get_by_test_id("stVegaLiteChart").locator(".mark-rect path").first.hover()
    page.locator("#vg-tooltip-element").get_by_text("http://i.example/i.png").wait_for()
    assert page.locator("#vg-tooltip-element img").count() == 0


def test_sql_typed_and_run_comes_back_from_its_link(watched: Watched) -> None:
    page = watched.open("sql")
    page.get_by_role("textbox", name="SQL").fill("SELECT 6 * 7 AS answer,\n       'a&b=c#d' AS text")
    page.keyboard.press("Control+Enter")
    page.get_by_text("1 row, 2 columns").wait_for()
    watched.settle()
    page.wait_for_url(re.compile("sql="))
    link = page.url.split("/")[-1]
    again = watched.open(link)
    again.get_by_text("1 row, 2 columns").wait_for()
    expect(again.get_by_role("textbox", name="SQL")).to_have_value("SELECT 6 * 7 AS answer,\n       'a&b=c#d' AS text")


def test_a_click_on_a_view_says_what_it_is_and_asks_it(watched: Watched) -> None:
    page = watched.open("sql?view=head_repair")
    page.get_by_text("Self-repair of every ablated head").wait_for()
    page.get_by_role("button", name="Query this view").click()
    page.get_by_text("100 rows").or_(page.get_by_text("108 rows")).first.wait_for()
    watched.settle()
    expect(page.get_by_role("textbox", name="SQL")).to_have_value("FROM head_repair\nLIMIT 100")


def test_an_exception_box_or_a_foreign_request_is_noticed(watched: Watched) -> None:
    page = watched.open("sql")
    page.evaluate("() => fetch('http://other.example/', {mode: 'no-cors'}).catch(() => {})")
    page.wait_for_timeout(500)
    assert any("other.example" in text for text in watched.wrong)
    watched.wrong.clear()
    page.evaluate("() => { const box = document.body.appendChild(document.createElement('p'));"
                  " box.dataset.testid = 'stException'; box.textContent = 'seen'; }")  # fmt: skip
    with pytest.raises(AssertionError, match="seen"):
        watched.check()
    page.evaluate("() => document.querySelector('[data-testid=stException]').remove()")


def test_a_click_on_the_heat_map_chooses_the_head_and_stays_in_the_link(watched: Watched) -> None:
    page = watched.open("heads?head=L0H0")
    page.get_by_role("heading", name="L0H0", level=2).wait_for()
    cell = page.get_by_test_id("stVegaLiteChart").first.locator(".mark-rect path[aria-label*='L2H1']").first
    cell.click()
    page.get_by_role("heading", name="L2H1", level=2).wait_for()
    watched.settle()
    page.wait_for_url(re.compile("head=L2H1"))
    again = watched.open(page.url.split("/")[-1])
    again.get_by_role("heading", name="L2H1", level=2).wait_for()
    assert again.get_by_role("heading", name="L0H0", level=2).count() == 0
    for label in ("L0H0", "L0H1"):
        again.get_by_test_id("stVegaLiteChart").first.locator(f".mark-rect path[aria-label*='{label}']").first.click()
        again.get_by_role("heading", name=label, level=2).wait_for()
        again.wait_for_url(re.compile(f"head={label}"))
        watched.settle()
    again.get_by_role("link", name="Tails").click()
    again.wait_for_url(re.compile("tails.*head=L0H1"))


def test_the_head_clicked_last_can_be_clicked_again_when_another_was_chosen_meanwhile(watched: Watched) -> None:
    page = watched.open("heads?head=L0H0")

    def choose(box: str, words: str) -> None:
        page.get_by_role("combobox", name=box).fill(words)
        page.get_by_role("option", name=words).first.click()

    def click(label: str) -> None:
        page.get_by_test_id("stVegaLiteChart").first.locator(f".mark-rect path[aria-label*='{label}']").first.click()

    def expect_head(label: str) -> None:
        page.get_by_role("heading", name=label, level=2).wait_for()
        watched.settle()

    for other in ("L0H0", "L1H2", "L0H0"):
        click("L2H1")
        expect_head("L2H1")
        choose("Head", other)
        expect_head(other)
    choose("Measure", "Gini")  # another picture in the place of the one that was clicked
    page.wait_for_url(re.compile("measure=gini"))
    watched.settle()
    for label in ("L2H1", "L1H1", "L2H1", "L1H2"):
        click(label)
        expect_head(label)
    page.get_by_role("link", name="Tails").click()
    page.get_by_role("heading", name="Tails", exact=True).wait_for()
    page.get_by_role("link", name="Heads", exact=True).click()
    expect_head("L1H2")
    click("L2H1")
    expect_head("L2H1")


def test_a_head_has_its_colour_wherever_it_was_chosen(watched: Watched) -> None:
    page = watched.open("tails?head=L0H0&others=L1H1,L2H2&measure=abs_self_repair")
    charts = page.get_by_test_id("stVegaLiteChart")

    def legends() -> list[list[list[str]]]:
        watched.settle()
        return [
            charts.nth(number).evaluate(
                """(chart) => {
                    const symbols = chart.querySelectorAll(".role-legend-symbol path");
                    const labels = [...chart.querySelectorAll(".role-legend-label text")];
                    return labels.map((label, i) => [label.textContent, symbols[i].getAttribute("fill")]);
                }"""
            )
            for number in range(3)
        ]

    assert legends() == [[[label, HEADS[i]] for i, label in enumerate(("L0H0", "L1H1", "L2H2"))]] * 3
    for head in ("L0H1", "L2H2"):
        page.get_by_role("combobox", name="Head").fill(head)
        page.get_by_role("option", name=head).first.click()
        page.wait_for_url(re.compile(f"head={head}"))
        page.get_by_text(f"{head}: Share top 2 %").wait_for()
        labels = list(dict.fromkeys([head, "L1H1", "L2H2"]))
        expected = [[[label, HEADS[i]] for i, label in enumerate(labels)]] * 3
        page.wait_for_timeout(1000)
        assert legends() == expected


@pytest.mark.parametrize(("width", "stacked"), [(1400, False), (900, True)])
def test_pictures_stand_below_each_other_in_a_narrow_window(watched: Watched, width: int, stacked: bool) -> None:
    watched.page.set_viewport_size({"width": width, "height": 1000})
    charts = watched.open("heads").get_by_test_id("stVegaLiteChart")
    boxes = [box for number in range(2) if (box := charts.nth(number).bounding_box())]
    assert len(boxes) == 2
    assert (boxes[0]["x"] == boxes[1]["x"]) == stacked
    assert all(box["width"] > 400 for box in boxes)


def test_files_are_named_by_what_they_are_of_and_pictures_say_it(watched: Watched) -> None:
    page = watched.open("heads?head=L1H2&ablation=mean")
    page.get_by_role("button", name="Data, SQL, image").first.click()
    button = page.get_by_test_id("stDownloadButton").get_by_role("button")
    button.nth(3).wait_for()
    found: dict[str, Path] = {}

    def whole(download: Download) -> bool:
        found[download.suggested_filename] = Path(download.path())
        return len(found) == 4

    with page.expect_download(whole):
        button.evaluate_all("buttons => buttons.forEach(button => button.click())")  # no click spoils the next
    stem = "head_map_run-1_mean_top2"
    assert set(found) == {f"{stem}.{ending}" for ending in ("csv", "parquet", "svg", "png")}
    rows, picture = (found[f"{stem}.{ending}"].read_text() for ending in ("csv", "svg"))
    *told, header = rows.splitlines()[:9]
    assert header == "layer,head,label,mean_self_repair"
    assert told == [
        *("# model: tiny-model", "# run: 1", "# dataset: tiny-text", "# prompts: 6", "# ablation: mean"),
        *("# rows used: top 2 % by direct effect", "# n: 1 row of each head", "# error bars: none"),
    ]
    assert "tiny-model, run 1, 6 prompts of tiny-text, mean ablation" in picture
    assert "rows used: top 2 % by direct effect; n: 1 row of each head" in picture
    assert pl.read_parquet_metadata(found[f"{stem}.parquet"])["rows used"] == "top 2 % by direct effect"


def test_a_line_that_comes_and_goes_moves_nothing_below_it(watch: Callable[[Path], Watched], tmp_path: Path) -> None:
    watched = watch(stored(tmp_path, fabricate("one"), fabricate("two", model="other-model", seed=3)))
    page = watched.open("compare?run=1&run_b=1")
    pictures = page.get_by_test_id("stVegaLiteChart")
    pictures.evaluate_all("pictures => pictures.forEach(picture => { picture.isOfBefore = true; })")
    page.get_by_role("combobox", name="Compare with run").fill("2")
    page.get_by_role("option", name="2").first.click()
    page.get_by_text("These are heads of different models").wait_for()
    watched.settle()
    assert pictures.evaluate_all("pictures => pictures.map(picture => !!picture.isOfBefore)") == [True] * 4


def test_words_are_chosen_and_names_stand_in_the_link(watched: Watched) -> None:
    page = watched.open("heads?measure=gini&population=all")
    measure = page.get_by_role("combobox", name="Measure")

    def choose(box: str, words: str) -> None:
        page.get_by_role("combobox", name=box).fill(words)
        page.get_by_role("option", name=words).first.click()

    def shown() -> list[str]:
        watched.settle()
        return [page.get_by_role("combobox", name=box).input_value() for box in ("Measure", "Rows used")]

    assert shown() == ["Gini", "All rows"]
    choose("Measure", "Excess kurtosis")
    page.wait_for_url(re.compile("heads.*measure=excess_kurtosis"))
    choose("Rows used", "Top 2 % by direct effect")
    page.wait_for_url(re.compile("heads[?]model=tiny-model&run=1&population=top2&measure=excess_kurtosis$"))
    page.get_by_role("link", name="Tails").click()
    page.get_by_role("heading", name="Tails", exact=True).wait_for()
    page.get_by_role("link", name="Heads", exact=True).click()
    page.wait_for_url(re.compile("heads.*measure=excess_kurtosis"))
    measure.wait_for()
    assert shown() == ["Excess kurtosis", "Top 2 % by direct effect"]
    choose("Measure", "Mean direct effect")
    page.wait_for_url(re.compile("measure=mean_direct_effect"))
    watched.settle()
    page.go_back()
    page.wait_for_function("() => document.querySelector('input[aria-label*=Measure]')?.value === 'Excess kurtosis'")


def test_tokens_are_pinned_by_clicks_and_compared_and_come_back_from_the_link(watched: Watched) -> None:
    page = watched.open("tokens?head=L1H2&prompt=1")
    tokens = page.locator(".token")
    tokens.nth(2).click()
    page.get_by_text("Pinned tokens").wait_for()
    watched.settle()
    tokens.nth(4).click()
    page.wait_for_url(re.compile("pinned=1(%2C|,)3"))
    watched.settle()
    again = watched.open(page.url.split("/")[-1])
    again.get_by_text("Pinned tokens").wait_for()
    again.locator(".token[aria-selected=true]").nth(1).wait_for()
    assert again.locator(".token[aria-selected=true]").count() == 2
    again.get_by_role("button", name="Next").click()
    again.wait_for_url(re.compile("prompt=2"))
    watched.settle()
    assert again.locator(".token[aria-selected=true]").count() == 0


def test_the_first_page_has_its_own_name_too(watched: Watched) -> None:
    watched.page.goto(f"{watched.address}/overview?ablation=mean")
    watched.page.get_by_role("heading", name="How much does this model self-repair?", level=1).wait_for()
    watched.page.wait_for_url(re.compile(r"/\?ablation=mean"))
    assert watched.page.get_by_role("dialog").count() == 0


def test_an_answer_is_exported_as_it_is_shown(watched: Watched) -> None:
    page = watched.open("sql?sql=SELECT+1+AS+one%2C+'<b>'+AS+text")
    page.get_by_text("1 row, 2 columns").wait_for()
    page.get_by_role("button", name="Data and SQL").click()
    with page.expect_download() as downloading:
        page.get_by_test_id("stDownloadButton").get_by_role("button", name="CSV").click()
    assert Path(downloading.value.path()).read_text() == "one,text\n1,<b>\n"


def test_hostile_sql_is_refused_in_words(watched: Watched) -> None:
    for sql, told in (
        ("COPY measurements TO 'x.csv'", "SELECT"),
        ("SELECT * FROM read_csv('/etc/passwd')", "read_csv"),
        ("SELECT * FORM models", "LINE 1"),
    ):
        page = watched.open(f"sql?sql={quote(sql)}")
        page.get_by_text(told).first.wait_for()
        watched.check()


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_pages_are_as_light_or_dark_as_the_browser(
    browser: Browser, address: str, scheme: Literal["light", "dark"], is_dark: bool
) -> None:
    watched = Watched(browser, address, scheme)
    page = watched.open("overview")
    ground = page.get_by_test_id("stApp").evaluate("element => getComputedStyle(element).backgroundColor")
    red, green, blue = map(int, re.findall(r"\d+", ground)[:3])
    assert (red + green + blue < 3 * 128) == is_dark
    watched.close()
