"""Names of columns in words, as axes, headers and lists show them."""

import pytest

from selfrepair.app.wording.columns import effect_words, title, words


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
