"""Names of columns in words, as axes, headers and lists show them; and texts of others, which stay what they are."""

import pytest

from selfrepair.app.wording.columns import effect_words, title, words
from selfrepair.app.wording.escape import escape_markdown
from support.hostile import pieces, replaced


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("mean_repair_mlp", "Mean MLP repair"),
        ("removed_effect", "Drop in direct effect"),
        ("total_fraction_of_effect_low", "Self-repair / direct effect low"),
        ("top1_from_here_share", "Top-1 correct from here on"),
        ("n_rows", "Rows"),
        ("anti_erasure_share", "Anti-erasure share"),
        ("quantile_99_9", "Quantile 99.9 %"),
        ("self_repair_quantile_5", "Self-repair quantile 5 %"),
        ("share_top_0_1", "Share top 0.1 %"),
        ("hill_0_5_se", "Hill 0.5 % standard error"),
        ("exceed_2_5_share", "Exceed 2.5 % share"),
        ("neurons_first_16", "Neurons first 16"),
        ("missed_in_top10", "Missed in top 10"),
    ],
)
def test_names_are_words(name: str, shown: str) -> None:
    assert words(name) == shown


def test_titles_have_units_and_counts_are_named_by_theirs() -> None:
    assert title("head_tail", "quantile_99_9") == "Quantile 99.9 % [logits]"
    assert title("head_noise", "n_prompts") == "Prompts"
    assert effect_words("abs_self_repair") == "Absolute self-repair"


@pytest.mark.parametrize(
    "text",
    [
        *("http://a.example/b", "see HTTPS://a.example", "xhttps://a.example:8501/?x=1", "http://http://a.example"),
        *("www.a.example", "(WWW.a.example)", "wwww.a.example", "a@b.example", "a.b+c-d_e@b-c.example and x@y.example"),
        *(
            ":smile:",
            "::smile::",
            ":a:b:",
            ":material_home:",
            ":streamlit:",
            ":+1:",
            "L1 -> L2",
            "a <-> b",
            "-- x",
            "1 >= 2",
        ),
        "ftp://a.example http://localhost:8501/sql?sql=1 mailto:a@b.example",
    ],
)
def test_nothing_in_texts_of_others_is_replaced(text: str) -> None:
    assert replaced(text)
    shown = pieces(escape_markdown(text))
    assert "".join(shown) == text
    assert not [piece for piece in shown if replaced(piece)]


def test_text_of_others_is_no_markdown() -> None:
    assert escape_markdown("![x](a.example/b.png)") == r"\!\[x\]\(a\.example\/b\.png\)"
    assert escape_markdown("--model a -b 12:30 x <= y") == r"\-\-model a \-b 12\:30 x :color[\<]\= y"
    assert escape_markdown("one\ntwo") == "one  \ntwo"
