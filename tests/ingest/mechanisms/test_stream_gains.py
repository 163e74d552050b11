"""Mechanisms where layers multiply the residual stream and add to it after the MLP (Gemma 4), in float64 and end to end."""

from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from selfrepair.app.cli.main import main
from selfrepair.ingest.checks.preflight import check_self_repression
from selfrepair.ingest.checks.reference import PlainForwards
from selfrepair.ingest.conventions import EFFECTS, PRECISIONS
from selfrepair.ingest.engine.unembedding import mean_unembedding, target_logit_directions
from selfrepair.ingest.mechanisms.neurons import SUMS
from selfrepair.ingest.mechanisms.self_repression import MULTIPLES
from selfrepair.ingest.mechanisms.top_rows import TopRowsSearch
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.models.notes import notes_on
from selfrepair.ingest.request.mechanisms import Mechanisms
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import next_token_targets
from selfrepair.warehouse.verify.verification import verify
from support import sweep, tiny

TOKENS = sweep.prompts()
ALL = Mechanisms(edges=True, neurons="all", experts=True, logit_lens=True, logprobs=True, self_repression=True)


@pytest.fixture(scope="module", params=["gemma4_text", "doge", "inkling_text"])
def measured(request):
    """A model with heads of two sizes, shared keys and a branch; one with a factor for every dimension; one that convolves what
    attention makes.
    """
    with sweep.WithoutFloat32():
        adapter = adapt(sweep.build(request.param), "small")
        wanted = replace(ALL, neurons="last" if request.param == "inkling_text" else "all", self_repression=False)
        mechanisms, _ = wanted.available(adapter)
        measurer = Measurer(adapter, RunSettings(("resample",), adapter.heads, mechanisms=mechanisms), batch_size=7)
        search = TopRowsSearch(adapter.heads, 50 * 5)
        targets, partners = next_token_targets(TOKENS), TOKENS[sweep.PARTNERS][:, :-1]
        measurer.find_top_rows(search, targets, partners, range(len(TOKENS)))
        measurer.top_rows = search.found()
        return adapter, measurer.measure(targets, partners, range(len(TOKENS)))


def test_edges_to_later_heads_and_mlps_add_up_to_repair_by_attention_and_mlps(measured):
    adapter, found = measured
    changes = found.edges.sums[:, 0, 0]  # over all rows
    n_heads = adapter.n_layers * adapter.n_heads
    for name, own in (("repair_attention", slice(n_heads)), ("repair_mlp", slice(n_heads, None))):
        expected = found.effects[..., EFFECTS.index(name)].flatten(1).sum(-1)
        torch.testing.assert_close(changes[:, own].sum(-1), expected, rtol=0, atol=1e-9)
        assert expected.abs().max() > 1e-3


def test_neurons_add_up_to_the_change_of_their_mlp(measured):
    adapter, found = measured
    if not found.neurons:  # there is a branch, or a convolution of what the MLP makes
        assert adapter.blocks[0].branch is not None or adapter.blocks[0].mlp_output is None
        return
    of_mlps = found.edges.sums[:, 1, 0, adapter.n_layers * adapter.n_heads :]  # in the top rows
    by_neuron = found.neurons.sums[:, 0, :, SUMS.index("change")]
    torch.testing.assert_close(by_neuron, of_mlps, rtol=0, atol=1e-9)
    assert of_mlps.abs().max() > 1e-3


def test_the_logit_lens_ends_at_the_prediction_and_log_probabilities_are_the_models_own(measured):
    adapter, found = measured
    torch.testing.assert_close(found.logit_lens[-1].logit, found.prediction.logit)
    with torch.no_grad(), sweep.WithoutFloat32():
        expected = (
            adapter.model(input_ids=TOKENS[:, :-1]).logits.log_softmax(-1).gather(-1, TOKENS[:, 1:, None])[..., 0]
        )
    torch.testing.assert_close(found.prediction.logprob, expected, rtol=0, atol=1e-9)
    assert found.logprobs is not None


def test_self_repression_is_that_of_whole_forwards(repressed):
    """Of layers that read the keys and values of layers below them."""
    adapter, found = repressed
    layers, biases = adapter.model.model.layers, PlainForwards(adapter).value_biases
    number, prompt, pos, multiple = 0, 1, 4, 3
    for at, (layer, head) in enumerate(found.heads):
        size = adapter.blocks[layer].d_head
        own, projection, post = slice(size * head, size * head + size), *_attention_of(layers[layer])
        z, made, streams = [], [], []

        def run(add, layer=layer, projection=projection, post=post, z=z, made=made, streams=streams):
            def change(_, arguments):
                stream = arguments[0].clone()
                stream[:, pos] += add
                return (stream, *arguments[1:])

            hooks = [
                layers[layer].register_forward_pre_hook(change),
                projection.register_forward_pre_hook(lambda _, arguments: z.append(arguments[0][0])),
                post.register_forward_pre_hook(lambda _, arguments: made.append(arguments[0][0])),
                adapter.final_norm.register_forward_pre_hook(lambda _, arguments: streams.append(arguments[0][0])),
            ]
            adapter.model(input_ids=TOKENS[prompt : prompt + 1, :-1])
            for hook in hooks:
                hook.remove()

        def output(z, made=made, own=own, projection=projection, post=post, layer=layer, head=head):
            alone = torch.zeros_like(z)
            alone[:, own] = z[:, own] - biases[layer, head, : own.stop - own.start]
            return post.weight * projection(alone) / (made[0].square().mean(-1, keepdim=True) + post.eps).sqrt()

        with torch.no_grad(), sweep.WithoutFloat32():
            run(0.0)
            run(multiple * output(z[0])[pos])
            directions = target_logit_directions(adapter, mean_unembedding(adapter), TOKENS[prompt, 1:])
            reach = float(torch.prod(torch.stack([one.layer_scalar for one in layers[layer:]])))
            scale, own_scale = ((s.square().mean(-1) + adapter.final_norm.eps).sqrt() for s in streams)
            effect = reach * (output(z[1])[pos] @ directions[pos]) / scale[pos]
        index = MULTIPLES.index(multiple)
        torch.testing.assert_close(found.direct_effect_after[number, index, at, prompt, pos], effect, rtol=0, atol=1e-8)
        torch.testing.assert_close(
            found.direct_effect_after_own_scale[index, at, prompt, pos],
            effect * scale[pos] / own_scale[pos],
            rtol=0,
            atol=1e-8,
        )


def _attention_of(layer):
    return layer.self_attn.o_proj, layer.post_attention_layernorm


@pytest.fixture(scope="module")
def repressed():
    with sweep.WithoutFloat32():
        adapter = adapt(sweep.build("gemma4_text"), "small")
        settings = RunSettings(("resample",), [(2, 1), (3, 0)], mechanisms=Mechanisms(self_repression=True))
        measurer = Measurer(adapter, settings, batch_size=4)
        check_self_repression(adapter, TOKENS, PRECISIONS["float64"], "small")
        targets, partners = next_token_targets(TOKENS), TOKENS[sweep.PARTNERS][:, :-1]
        return adapter, measurer.measure(targets, partners, range(len(TOKENS))).self_repression


def test_what_does_not_work_is_left_out_with_a_line():
    model = adapt(sweep.build("gemma4_text"), "gemma4")
    found, notes = ALL.available(model)
    assert found.self_repression
    assert found.edges
    assert found.neurons == "none"
    assert [note.partition(":")[0] for note in notes] == ["Neurons are not measured"]
    assert len(notes_on(model)) == 2
    beside = adapt(sweep.build("falcon_h1"), "falcon-h1")
    found, notes = ALL.available(beside)
    assert not found.self_repression
    assert not found.edges
    assert notes_on(beside) == ("What FalconH1Mixer adds beside attention counts as attention's.",)


def test_a_run_of_a_small_gemma_4_holds_what_verify_checks(tmp_path):
    folder, db = tmp_path / "small", tmp_path / "w.duckdb"
    sweep.build("gemma4_text").to(torch.float32).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    texts = tiny.write_texts(tmp_path / "texts.jsonl")
    words = ["--dataset", str(texts), "--prompts", "2", "--seq-len", "6", "--device", "cpu", "--crosscheck", "1"]
    done = CliRunner().invoke(
        main,
        [
            "ingest",
            "--model",
            str(folder),
            *words,
            "--ablation",
            "zero",
            "--layers",
            "2-3",
            "--mechanisms",
            "--db",
            str(db),
        ],
    )
    assert done.exit_code == 0, done.output
    assert "multiply the residual stream" in done.output
    assert [check for check in verify(db) if not check.ok] == []
