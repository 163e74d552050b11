"""The app's frame: its pages by subject, and what they look at. Run it with `selfrepair app`."""

import streamlit as st

PAGES = {
    "See": {
        "overview": ("Overview", ":material/monitoring:"),
        "heads": ("Heads", ":material/grid_view:"),
        "mechanisms": ("Mechanisms", ":material/account_tree:"),
        "tails": ("Tails", ":material/ssid_chart:"),
        "tokens": ("Tokens", ":material/text_fields:"),
        "compare": ("Compare", ":material/compare_arrows:"),
    },
    "Ask": {
        "sql": ("SQL", ":material/terminal:"),
        "ingests": ("Ingests", ":material/move_to_inbox:"),
    },
}
"""Files of `app_pages/` by heading, with title and icon. A new page is a new file and a line here."""

st.set_page_config(page_title="selfrepair", page_icon="🩹", layout="wide")
st.navigation(
    {
        heading: [
            st.Page(f"app_pages/{name}.py", title=title, icon=icon, url_path=name, default=name == "overview")
            for name, (title, icon) in pages.items()
        ]
        for heading, pages in PAGES.items()
    }
).run()
