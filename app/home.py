"""The app's frame: the navigation between its pages. Served by `selfrepair app`."""

from typing import TYPE_CHECKING

import streamlit as st

from selfrepair.app.components.about import clear_page
from selfrepair.app.data.chosen import follow, link_to, place_notices

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

PAGES = {
    "Explore": {
        "overview": ("Overview", ":material/monitoring:"),
        "heads": ("Heads", ":material/grid_view:"),
        "components": ("Components", ":material/account_tree:"),
        "tails": ("Tails", ":material/ssid_chart:"),
        "tokens": ("Tokens", ":material/text_fields:"),
        "compare": ("Compare", ":material/compare_arrows:"),
        "reproduce": ("Reproduce", ":material/fact_check:"),
    },
    "Mechanisms": {
        "who_repairs": ("Who repairs whom", ":material/share:"),
        "neurons": ("Neurons", ":material/hub:"),
        "self_repression": ("Self-repression", ":material/replay:"),
        "logit_lens": ("Logit lens", ":material/stairs:"),
    },
    "Data": {
        "sql": ("SQL", ":material/terminal:"),
        "ingests": ("Ingests", ":material/move_to_inbox:"),
    },
}
"""Files of `app_pages/` by heading, with title and icon. To add a page, add its file and a line here."""

FIRST = "overview"
"""The page at the root address."""


_STYLE = """<style>
@media (max-width: 1150px) {
    [data-testid="stColumn"]:has([data-testid="stVegaLiteChart"]) { min-width: calc(100% - 1.5rem); }
    [data-testid="stColumn"]:has([data-testid="stMetric"]) { min-width: calc(50% - 1rem); }
}
</style>"""
"""In a narrow window, charts and numbers side by side would be too small to read."""


def redirect_to_root() -> None:
    """Redirect from the first page's own name to the root address."""
    st.switch_page(f"app_pages/{FIRST}.py", query_params=st.query_params.to_dict())


def draw_links(place: "DeltaGenerator") -> dict[str, dict[str, str]]:
    """Draw the list of pages, each with a link that carries all that was chosen; the parameters of each link."""
    links = {name: link_to(name) for of_heading in PAGES.values() for name in of_heading}
    with place.container(gap="xxsmall"):
        for heading, of_heading in PAGES.items():
            st.caption(heading)
            for name, (title, icon) in of_heading.items():
                st.page_link(f"app_pages/{name}.py", label=title, icon=icon, query_params=links[name])
    return links


clear_page()
st.set_page_config(page_title="selfrepair", page_icon="🩹", layout="wide")
st.html(_STYLE)
pages = [
    st.Page(
        f"app_pages/{name}.py",
        title=title,
        icon=icon,
        # not used for the first page, but must differ from the redirect's
        url_path="home" if name == FIRST else name,
        default=name == FIRST,
    )
    for of_heading in PAGES.values()
    for name, (title, icon) in of_heading.items()
]
redirect = st.Page(redirect_to_root, title=FIRST.capitalize(), url_path=FIRST, visibility="hidden")
page = st.navigation([*pages, redirect], position="hidden")
follow(page.url_path or FIRST)
place_notices()
links_place = st.sidebar.empty()
links = draw_links(links_place)
try:
    page.run()
finally:
    if links != {name: link_to(name) for name in links}:  # the page found out which run it shows
        draw_links(links_place)
