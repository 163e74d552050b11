"""To come."""

import streamlit as st

from selfrepair.app.choice import choose

choose()
st.title("heads")
