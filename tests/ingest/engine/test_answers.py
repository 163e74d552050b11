"""Answers and foils: what is measured of them alone equals the last position of the whole measurement."""

import itertools

import pytest
import torch

from selfrepair.ingest.conventions import EFFECTS
from selfrepair.ingest.mechanisms.top_rows import TopRowsSearch
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.request.mechanisms import Mechanisms
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measured import Measured
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import PredictionTargets, answer_targets, next_token_targets
from support import families, naive
from support.tiers import first_of_each

PARTNERS = [1, 2, 3, 0]
PROMPTS, SEQ = 4, 8
ABLATIONS = ("resample", "zero")
ALL = Mechanisms(edges=True, neurons="all", logit_lens=True, logprobs=True, self_repression=True)
RATIO = EFFECTS.index("ln_scale_ratio")


def prompts() -> torch.Tensor:
    """Their last tokens are the answers."""
    return torch.randint(2, families.VOCABULARY, (PROMPTS, SEQ), generator=torch.Generator().manual_seed(7))


def foils() -> torch.Tensor:
    return (prompts()[:, -1] + torch.tensor([3, 5, 7, 11])) % families.VOCABULARY


def measure(model, targets: PredictionTargets, mechanisms: Mechanisms = Mechanisms(), batch_size: int = 7) -> Measured:  # noqa: B008
    adapter = adapt(model, "test")
    heads = list(itertools.product(range(adapter.n_layers), range(adapter.n_heads)))
    measurer = Measurer(adapter, RunSettings(ABLATIONS, heads, mechanisms=mechanisms), batch_size=batch_size)
    partners = prompts()[PARTNERS][:, :-1]
    search = TopRowsSearch(heads, PROMPTS * targets.n_positions * 50)  # every row is in the top
    measurer.find_top_rows(search, targets, partners, range(PROMPTS))
    measurer.top_rows = search.found()
    return measurer.measure(targets, partners, range(PROMPTS))


@pytest.fixture(scope="module", params=first_of_each(3, ["gpt2", "pythia", "llama-grouped"]))
def family(request):
    return request.param


@pytest.fixture(scope="module")
def whole(family) -> Measured:
    return measure(families.build(family), next_token_targets(prompts()), ALL)


@pytest.fixture(scope="module")
def ends(family) -> Measured:
    return measure(families.build(family), answer_targets(prompts()), ALL)


def test_an_answer_s_effects_are_the_last_position_s(whole, ends):
    assert ends.effects.shape == (*whole.effects.shape[:2], 1, len(EFFECTS))
    assert (ends.first_position, whole.first_position) == (SEQ - 2, 0)
    torch.testing.assert_close(ends.effects, whole.effects[:, :, -1:], rtol=0, atol=1e-12)
    torch.testing.assert_close(ends.scale, whole.scale[:, -1:], rtol=0, atol=1e-12)


def test_an_answer_s_mechanisms_are_the_last_position_s(whole, ends):
    close = {"rtol": 0, "atol": 1e-10}
    for mine, all_of_them in zip(
        (ends.prediction, *ends.logit_lens), (whole.prediction, *whole.logit_lens), strict=True
    ):
        for name in ("logit", "logprob", "rank", "entropy"):
            torch.testing.assert_close(getattr(mine, name), getattr(all_of_them, name)[:, -1:], **close)
    torch.testing.assert_close(ends.logprobs, whole.logprobs[:, :, -1:], **close)
    for name in ("direct_effect", "direct_effect_after", "direct_effect_after_own_scale"):
        torch.testing.assert_close(
            getattr(ends.self_repression, name), getattr(whole.self_repression, name)[..., -1:], equal_nan=True, **close
        )
    last = whole.neurons.rows[:, 2] == SEQ - 2
    assert ends.neurons.rows[:, :2].tolist() == whole.neurons.rows[last][:, :2].tolist()
    torch.testing.assert_close(ends.neurons.effects, whole.neurons.effects[last], **close)


def test_edges_of_answers_add_up_to_their_repair(family, ends):
    adapter = adapt(families.build(family), family)
    sums = ends.edges.sums[:, 0, 0]
    by_kind = {"repair_attention": sums[:, : -adapter.n_layers], "repair_mlp": sums[:, -adapter.n_layers :]}
    for name, changes in by_kind.items():
        rows = ends.effects[..., EFFECTS.index(name)]
        torch.testing.assert_close(changes.sum(-1), rows.sum((1, 2)), rtol=0, atol=1e-10)


@pytest.mark.parametrize("batch_size", first_of_each(2, [50, 1]))
def test_a_foil_is_subtracted_from_every_effect(family, batch_size):
    model = families.build(family)
    measured = measure(families.build(family), answer_targets(prompts(), foils()), batch_size=batch_size)
    of_foils = torch.cat([prompts()[:, :-1], foils()[:, None]], dim=1)
    for ablated, effects in zip(measured.head_ablations, measured.effects, strict=True):
        columns = []
        for tokens in (prompts(), of_foils):
            with torch.no_grad():
                found = naive.measure(model, tokens.tolist(), PARTNERS, ablated.layer, ablated.head, ablated.ablation)
            columns.append(torch.stack([found[name][:, -1] for name in EFFECTS], dim=-1))
        expected = columns[0] - columns[1]
        expected[:, RATIO] = columns[0][:, RATIO]
        torch.testing.assert_close(effects[:, 0], expected, rtol=0, atol=1e-8)


def test_the_clean_answer_stands_above_its_foil(family):
    model = families.build(family)
    prediction = measure(families.build(family), answer_targets(prompts(), foils())).prediction
    with torch.no_grad():
        ends = torch.stack([naive.forward(model, row).logits for row in prompts().tolist()])[:, -2]
    own, foil = (ends.gather(-1, tokens[:, None]) for tokens in (prompts()[:, -1], foils()))
    torch.testing.assert_close(prediction.logit, own - foil, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        prediction.logprob, ends.log_softmax(-1).gather(-1, prompts()[:, -1:]), rtol=0, atol=1e-5
    )
