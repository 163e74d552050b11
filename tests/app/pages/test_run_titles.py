"""Legends, tables and files of the app call a run by its name."""

from typing import Any

import pytest

from selfrepair.app.components.about import file_stem, run_facts, title_lines
from selfrepair.app.controls.comparison import side_name
from selfrepair.app.data.choice import Choice


def choice(name: str | None) -> Choice:
    run: dict[str, Any] = {"run_id": 3, "run_name": name, "model": "gpt2", "dataset": "stdlib", "n_prompts": 1200}
    return Choice(run | {"logit_of": "next_token"}, "mean", "all")


@pytest.mark.parametrize(
    ("name", "side", "line", "stem"),
    [
        (None, "gpt2 (run 3), mean", "gpt2, run 3, 1,200 prompts of stdlib", "map_run-3"),
        ("base line", "gpt2 (run 3, base line), mean", "gpt2, run 3 (base line), 1,200", "map_run-3-base-line"),
    ],
)
def test_a_run_is_called_by_its_name(name: str | None, side: str, line: str, stem: str) -> None:
    assert side_name(choice(name)) == side
    told = run_facts(choice(name), "")
    assert title_lines(told)[0].startswith(line)
    assert file_stem("map", told) == stem
