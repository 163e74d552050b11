import pytest

from selfrepair.warehouse.cli.head_names import short_heads

WHOLE = {layer: [f"L{layer}H{head}" for head in range(3)] for layer in range(6)}


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([label for labels in WHOLE.values() for label in labels], "all"),
        (WHOLE[2], "layer 2"),
        (WHOLE[0] + WHOLE[3] + WHOLE[4] + WHOLE[5], "layers 0, 3-5"),
        (["L5H2", "L0H1", *WHOLE[4]], "layer 4, L0H1, L5H2"),
        (["L1H0", "L1H2"], "L1H0, L1H2"),
        ([f"L{layer}H{head}" for layer in range(6) for head in (0, 2)], "12 single heads"),
        ([], ""),
    ],
)
def test_heads_are_named_in_few_words(labels, text):
    assert short_heads(labels, n_layers=6, n_heads=3) == text


def test_what_is_no_head_is_refused():
    with pytest.raises(ValueError, match="'Layer 3' is not a head's name"):
        short_heads(["Layer 3"], 6, 3)
