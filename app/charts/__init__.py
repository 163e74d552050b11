"""Pictures: Altair charts of frames, without Streamlit."""
