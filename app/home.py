"""The app's frame: its pages by subject, and what they look at. Run it with `selfrepair app`."""

import streamlit as st

from selfrepair.app.components.export_context import forget
from selfrepair.app.controls.named_list import turn_page

PAGES = {
    "See": {
        "overview": ("Overview", ":material/monitoring:"),
        "heads": ("Heads", ":material/grid_view:"),
        "mechanisms": ("Mechanisms", ":material/account_tree:"),
        "tails": ("Tails", ":material/ssid_chart:"),
        "tokens": ("Tokens", ":material/text_fields:"),
        "compare": ("Compare", ":material/compare_arrows:"),
        "reproduce": ("Reproduce", ":material/fact_check:"),
    },
    "Who and how": {
        "who_repairs": ("Who repairs whom", ":material/share:"),
        "neurons": ("Neurons", ":material/hub:"),
        "self_repression": ("Self-repression", ":material/replay:"),
        "logit_lens": ("Logit lens", ":material/stairs:"),
    },
    "Ask": {
        "sql": ("SQL", ":material/terminal:"),
        "ingests": ("Ingests", ":material/move_to_inbox:"),
    },
}
"""Files of `app_pages/` by heading, with title and icon. A new page is a new file and a line here."""

FIRST = "overview"
"""The page at the bare address."""


_STACKED = """<style>
@media (max-width: 1150px) {
    [data-testid="stColumn"]:has([data-testid="stVegaLiteChart"]) { min-width: calc(100% - 1.5rem); }
    [data-testid="stColumn"]:has([data-testid="stMetric"]) { min-width: calc(50% - 1rem); }
}
</style>"""
"""In a narrow window, pictures and numbers that stand beside each other would be too small to read."""


def first() -> None:
    """What stands at the first page's own name: the way to the bare address."""
    st.switch_page(f"app_pages/{FIRST}.py", query_params=st.query_params.to_dict())


turn_page()
forget()
st.set_page_config(page_title="selfrepair", page_icon="🩹", layout="wide")
st.html(_STACKED)
pages = {
    heading: [
        st.Page(
            f"app_pages/{name}.py",
            title=title,
            icon=icon,
            url_path="home" if name == FIRST else name,  # of the first page it is not used, and has to be another's
            default=name == FIRST,
        )
        for name, (title, icon) in of_heading.items()
    ]
    for heading, of_heading in PAGES.items()
}
pages[""] = [st.Page(first, title=FIRST.capitalize(), url_path=FIRST, visibility="hidden")]
st.navigation(pages, expanded=True).run()  # all of them in sight
