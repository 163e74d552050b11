"""Every number of the mechanisms against the naive reference, row by row and neuron by neuron, in float64."""

import numpy as np
import pytest
import torch

from selfrepair.ingest.conventions import ABLATIONS, EFFECTS
from selfrepair.ingest.mechanisms.clusters import cluster_sums, group_prompts
from selfrepair.ingest.mechanisms.neurons import LARGEST, SUMS
from selfrepair.ingest.mechanisms.top_rows import TopRows, TopRowsSearch
from selfrepair.ingest.request.mechanisms import Mechanisms
from selfrepair.ingest.runs.measured import Measured
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.warehouse.schema import CHANGE_SHARES
from support import families, naive
from support.measuring import PARTNERS, PROMPTS, SEQ, measure, prompts


@pytest.fixture(scope="module")
def measured(family) -> tuple[Measurer, Measured]:
    return measure(families.build(family))


def ablations_with_pairs(family, measurer, given=()):
    model = families.build(family)
    with torch.no_grad():
        for number, ablated in enumerate(measurer.head_ablations):
            found = naive.pairs(
                model, prompts().tolist(), PARTNERS, ablated.layer, ablated.head, ablated.ablation, given
            )
            yield number, ablated, model, found


def tops_of(measurer, ablated) -> torch.Tensor:
    return measurer.top_rows.mask((ablated.layer, ablated.head), range(PROMPTS), SEQ - 1)


def top_of(measurer, ablated) -> torch.Tensor:
    return tops_of(measurer, ablated)[0]


def test_the_top_rows_are_those_of_the_highest_direct_effect(measured):
    measurer, found = measured
    direct = found.effects[..., EFFECTS.index("direct_effect")]
    at_first = 0
    for effects, ablated in zip(direct, measurer.head_ablations, strict=True):
        steps = (effects.flatten() * 1e4).round()
        ranked = sorted(range(len(steps)), key=lambda row: (-steps[row], row))
        with_first, later = tops_of(measurer, ablated)
        assert sorted(ranked[: PROMPTS * (SEQ - 1) // 5]) == with_first.flatten().nonzero()[:, 0].tolist()
        ranked = [row for row in ranked if row % (SEQ - 1) > 0]
        assert sorted(ranked[: PROMPTS * (SEQ - 2) // 5]) == later.flatten().nonzero()[:, 0].tolist()
        at_first += int(with_first[:, 0].sum())
    assert at_first > 0


def test_edges_equal_the_naive_sums_over_rows(family, measured):
    measurer, found = measured
    adapter = measurer.adapter
    # documents of the five prompts, the last of which other units have prompts of, too
    groups = group_prompts([7, 7, 5, 9, 9], frozenset({9, 11}))
    assert [(group.document, group.prompts) for group in groups] == [(None, [0, 1, 2]), (9, [3, 4])]
    sums = cluster_sums(found.edges.prompt_rows, found.edges.prompt_sums, groups)
    for number, ablated, model, pairs in ablations_with_pairs(family, measurer):
        changes = []
        for pair in pairs:
            heads = [
                (
                    (pair.ablated.z[k][:-1, h] - pair.clean.z[k][:-1, h])
                    @ naive.head_weight(model, k, h)
                    * pair.directions
                )
                for k in range(adapter.n_layers)
                for h in range(adapter.n_heads)
            ]
            mlps = [(b - a)[:-1] * pair.directions for a, b in zip(pair.clean.mlp, pair.ablated.mlp, strict=True)]
            changes.append(torch.stack([part.sum(-1) / pair.scale for part in (*heads, *mlps)], dim=-1))
        rows = torch.stack(changes)
        own = slice(0, (ablated.layer + 1) * adapter.n_heads)
        rows[..., own] = 0  # the ablated head itself is no target
        for population, chosen in enumerate(
            (torch.ones(PROMPTS, SEQ - 1, dtype=torch.bool), top_of(measurer, ablated))
        ):
            assert found.edges.prompt_rows[number, population].sum() == chosen.sum()
            in_cluster = (rows * chosen[..., None]).sum(1), chosen.sum(1).double()
            change, n_rows = (torch.stack([part[:2].sum(0), part[2], part[3:].sum(0)]) for part in in_cluster)
            for group, mine in enumerate((slice(2), slice(2, 3))):
                here = group, number, population
                assert sums.n_rows[here] == n_rows[mine].sum()
                assert sums.n_clusters[here] == (n_rows[mine] > 0).sum()
                assert sums.squared_rows[here] == n_rows[mine].square().sum()
                for values, wanted in (
                    (sums.sums[here][..., 0], change[mine].sum(0)),
                    (sums.rows_by_first[here], (n_rows[mine, None] * change[mine]).sum(0)),
                    (sums.squared_first[here], change[mine].square().sum(0)),
                ):
                    torch.testing.assert_close(values, wanted, rtol=0, atol=1e-8)
            for moment in (1, 2):
                torch.testing.assert_close(
                    found.edges.sums[number, population, moment - 1], (rows[chosen] ** moment).sum(0), rtol=0, atol=1e-8
                )


def test_edges_add_up_to_the_repair_columns(measured):
    measurer, found = measured
    n_head_targets = measurer.adapter.n_layers * measurer.adapter.n_heads
    for number, ablated in enumerate(measurer.head_ablations):
        for population, chosen in enumerate((slice(None), top_of(measurer, ablated))):
            sums = found.edges.sums[number, population, 0]
            for name, part in (("repair_attention", sums[:n_head_targets]), ("repair_mlp", sums[n_head_targets:])):
                column = found.effects[number, ..., EFFECTS.index(name)][chosen]
                assert float(part.sum()) == pytest.approx(float(column.sum()), abs=1e-10)


def test_every_neuron_equals_the_naive_one(family, measured):
    measurer, found = measured
    adapter, neurons = measurer.adapter, found.neurons
    first = 1 if adapter.parallel_blocks else 0
    for number, ablated, model, pairs in ablations_with_pairs(family, measurer):
        mine = neurons.rows[:, 0] == number
        rows = neurons.rows[mine]
        tops = tops_of(measurer, ablated)
        assert rows[:, 1:].tolist() == tops.any(0).nonzero().tolist()  # those of both once
        sums = torch.zeros(2, adapter.n_layers, len(SUMS), dtype=torch.float64)
        n_ranked, n_shares = neurons.largest.shape[-2], len(CHANGE_SHARES)
        exceed = torch.zeros(2, adapter.n_layers, n_ranked, 2 * n_shares, dtype=torch.float64)
        largest = torch.zeros(2, adapter.n_layers, n_ranked, len(LARGEST), dtype=torch.float64)
        for row, at in enumerate(rows.tolist()):
            _, prompt, pos = at
            pair = pairs[prompt]
            direct = found.effects[number, prompt, pos, EFFECTS.index("direct_effect")]
            mine_in = tops[:, prompt, pos]
            assert neurons.members[mine][row].tolist() == mine_in.tolist()
            for layer in range(adapter.n_layers):
                is_above = layer >= ablated.layer + first
                assert bool(neurons.measured[mine][row, layer]) == is_above
                if not is_above:
                    continue
                weight = naive.neuron_weight(model, layer) @ pair.directions[pos] / pair.scale[pos]
                before, after = (
                    pair.clean.activations[layer][pos] * weight,
                    pair.ablated.activations[layer][pos] * weight,
                )
                change = after - before
                order = change.abs().argsort(descending=True)[: neurons.neurons.shape[-1]]
                kept = neurons.neurons[mine][row, layer]
                torch.testing.assert_close(change[kept].abs(), change[order].abs(), rtol=0, atol=1e-9)
                expected = torch.stack([before[kept], after[kept]], dim=-1)
                torch.testing.assert_close(neurons.effects[mine][row, layer], expected, rtol=0, atol=1e-9)
                up = change.clamp_min(0)
                sums[mine_in, layer] += torch.stack(
                    [
                        *(torch.tensor(1.0), direct, change.sum(), change.abs().sum(), up.sum(), up[before < 0].sum()),
                        (change.abs().max() >= 0.5e-4).double(),
                    ]
                )
                by_size, by_sign = (part.sort(descending=True).values[:n_ranked] for part in (change.abs(), change))
                for index, share in enumerate(CHANGE_SHARES.values()):
                    exceed[mine_in, layer, :, index] += by_size > share * direct.abs()
                    exceed[mine_in, layer, :, n_shares + index] += by_sign > share * direct.abs()
                shares = [
                    part / total if total > 0 else torch.zeros_like(part)
                    for part, total in ((by_size, change.abs().sum()), (by_sign.clamp_min(0), up.sum()))
                ]
                largest[mine_in, layer] += torch.stack([by_size, by_sign, *shares], dim=-1)
        torch.testing.assert_close(neurons.sums[number], sums, rtol=0, atol=1e-8)
        torch.testing.assert_close(neurons.exceed[number], exceed, rtol=0, atol=0)
        torch.testing.assert_close(neurons.largest[number], largest, rtol=0, atol=1e-8)


def test_neurons_add_up_to_the_change_of_their_mlp(measured):
    measurer, found = measured
    n_head_targets = measurer.adapter.n_layers * measurer.adapter.n_heads
    of_mlps = found.edges.sums[:, 1, 0, n_head_targets:]
    torch.testing.assert_close(found.neurons.sums[:, 0, :, SUMS.index("change")], of_mlps, rtol=0, atol=1e-8)


def test_the_logit_lens_equals_the_naive_one(family, measured):
    _, found = measured
    model = families.build(family)
    with torch.no_grad():
        for number, prompt in enumerate(prompts().tolist()):
            run = naive.forward(model, prompt)
            for layer, lens in enumerate(found.logit_lens):
                logits = naive.logits(model, run.after[layer])[:-1]
                own = logits.gather(-1, torch.tensor(prompt[1:])[:, None])
                # The model's own RMSNorm computes in float32.
                within = {"rtol": 0, "atol": 1e-4 if naive.parts_of(model).rms else 1e-8}
                torch.testing.assert_close(lens.logit[number], (own - logits.mean(-1, keepdim=True))[:, 0], **within)
                logprob = own[:, 0] - logits.logsumexp(-1)
                torch.testing.assert_close(lens.logprob[number], logprob, **within)
                assert lens.rank[number].tolist() == ((logits > own).sum(-1) + 1).tolist()


def test_log_probabilities_equal_the_naive_ones(family, measured, monkeypatch):
    measurer, found = measured
    for number, _, model, pairs in ablations_with_pairs(family, measurer):
        for prompt, pair in enumerate(pairs):
            before, after = (naive.logits(model, run.final)[:-1].log_softmax(-1) for run in (pair.clean, pair.ablated))
            targets = torch.tensor(pair.prompt[1:])[:, None]
            change = (after - before).gather(-1, targets)[:, 0]
            divergence = (before.exp() * (before - after)).sum(-1)
            within = {"rtol": 0, "atol": 2e-4 if naive.parts_of(model).rms else 1e-8}
            torch.testing.assert_close(found.logprobs[number, prompt, :, 0], change, **within)
            torch.testing.assert_close(found.logprobs[number, prompt, :, 1], divergence, **within)


def test_slices_of_the_vocabulary_change_nothing(family, measured, monkeypatch):
    monkeypatch.setattr("selfrepair.ingest.engine.unembedding.LOGITS_AT_ONCE", {"cpu": 300})
    _, sliced = measure(families.build(family), mechanisms=Mechanisms(logprobs=True))
    torch.testing.assert_close(sliced.logprobs, measured[1].logprobs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("batch_size", [1, 2, 1000])
def test_batch_size_changes_nothing(family, measured, batch_size):
    _, expected = measured
    _, found = measure(families.build(family), batch_size=batch_size)
    torch.testing.assert_close(found.effects, expected.effects, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.edges.sums, expected.edges.sums, rtol=0, atol=1e-11)
    torch.testing.assert_close(found.logprobs, expected.logprobs, rtol=0, atol=1e-11)
    for name in ("sums", "exceed", "largest"):
        torch.testing.assert_close(getattr(found.neurons, name), getattr(expected.neurons, name), rtol=0, atol=1e-10)
    rows = {tuple(row): effect for row, effect in zip(found.neurons.rows.tolist(), found.neurons.effects, strict=True)}
    for row, effect in zip(expected.neurons.rows.tolist(), expected.neurons.effects, strict=True):
        torch.testing.assert_close(rows.pop(tuple(row)), effect, rtol=0, atol=1e-10)
    assert not rows


def test_mechanisms_leave_the_effects_as_they_are(family, measured):
    _, plain = measure(families.build(family), mechanisms=Mechanisms())
    torch.testing.assert_close(plain.effects, measured[1].effects, rtol=0, atol=1e-12)
    assert plain.edges is None
    assert plain.neurons is None
    assert plain.logprobs is None
    assert not plain.logit_lens


def test_the_last_mlp_alone_has_the_same_neurons(family, measured):
    _, last = measure(families.build(family), mechanisms=Mechanisms(neurons="last"))
    torch.testing.assert_close(last.neurons.sums[:, :, 0], measured[1].neurons.sums[:, :, -1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_co_ablated_heads_are_ablated_in_both_forwards(family, ablation):
    given = [(0, 1), (1, 0)]
    measurer, found = measure(families.build(family), ablations=(ablation,), given=given, mechanisms=Mechanisms())
    model = families.build(family)
    with torch.no_grad():
        for number, ablated in enumerate(measurer.head_ablations):
            columns = naive.measure(model, prompts().tolist(), PARTNERS, ablated.layer, ablated.head, ablation, given)
            expected = torch.stack([columns[name] for name in EFFECTS], dim=-1)
            torch.testing.assert_close(found.effects[number], expected, rtol=0, atol=1e-8)


def test_no_given_heads_are_the_plain_run(family, measured):
    _, found = measure(families.build(family), given=(), mechanisms=Mechanisms())
    torch.testing.assert_close(found.effects, measured[1].effects, rtol=0, atol=1e-12)


def test_the_search_keeps_the_top_of_any_number_of_rows():
    effects = torch.randn(2, 7, 40, generator=torch.Generator().manual_seed(1)).round(decimals=1)
    effects[..., 0] += 2  # the first ones are the largest
    search = TopRowsSearch([(0, 0), (3, 1)], 7 * 40, 7 * 39)
    for prompt in range(7):
        search.add([prompt], effects[:, prompt : prompt + 1])
    found = search.found()
    assert isinstance(found, TopRows)
    for head, values in zip(found.heads, effects, strict=True):
        ranked = sorted(range(280), key=lambda row: (-values.flatten()[row], row))
        later = [row for row in ranked if row % 40 > 0]
        for mask, expected in zip(found.mask(head, range(7), 40), (ranked[:5], later[:5]), strict=True):
            assert mask.flatten().nonzero()[:, 0].tolist() == sorted(expected)
        assert torch.equal(found.mask(head, [5], 40), found.mask(head, range(7), 40)[:, 5:6])


@pytest.mark.parametrize(("n_positions", "first"), [(1, 4), (1, 0)])
def test_after_position_0_there_may_be_all_rows_or_none(n_positions, first):
    """Answers are measured at the last position of a prompt, which of a prompt of two tokens is position 0."""
    n_rows = 6, 6 if first else 0
    search = TopRowsSearch([(0, 0)], *n_rows)
    search.add(range(6), torch.tensor([[[1.0], [3.0], [2.0], [3.0], [0.0], [1.0]]]), first)
    with_first, later = search.found().mask((0, 0), range(6), n_positions)
    assert with_first[:, 0].nonzero()[:, 0].tolist() == [1]
    assert later[:, 0].nonzero()[:, 0].tolist() == ([1] if first else [])


def test_a_head_with_few_rows_has_one_in_its_top():
    search = TopRowsSearch([(0, 0)], 3)
    search.add([0], torch.tensor([[[-2.0, -1.0, -3.0]]]))
    assert np.array_equal(search.found().mask((0, 0), [0], 3), [[[False, True, False]]])
