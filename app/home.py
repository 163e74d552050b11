"""The app's frame: the navigation between its pages. Served by `selfrepair app`."""

import streamlit as st

from selfrepair.app.components.export_context import clear_context
from selfrepair.app.controls.linked import note_page

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


_NARROW = """<style>
@media (max-width: 1150px) {
    [data-testid="stColumn"]:has([data-testid="stVegaLiteChart"]) { min-width: calc(100% - 1.5rem); }
    [data-testid="stColumn"]:has([data-testid="stMetric"]) { min-width: calc(50% - 1rem); }
}
</style>"""
"""In a narrow window, charts and numbers side by side would be too small to read."""


def redirect_to_root() -> None:
    """Redirect from the first page's own name to the root address."""
    st.switch_page(f"app_pages/{FIRST}.py", query_params=st.query_params.to_dict())


note_page()
clear_context()
st.set_page_config(page_title="selfrepair", page_icon="🩹", layout="wide")
st.html(_NARROW)
pages = {
    heading: [
        st.Page(
            f"app_pages/{name}.py",
            title=title,
            icon=icon,
            url_path="home"
            if name == FIRST
            else name,  # not used for the first page, but must differ from the redirect's
            default=name == FIRST,
        )
        for name, (title, icon) in of_heading.items()
    ]
    for heading, of_heading in PAGES.items()
}
pages[""] = [st.Page(redirect_to_root, title=FIRST.capitalize(), url_path=FIRST, visibility="hidden")]
st.navigation(pages, expanded=True).run()
