"""Nothing as long as the vocabulary is held for more rows than a bound says, whatever the model."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import GPT2Config, GPT2LMHeadModel

from selfrepair.ingest.checks.preflight import POSITIONS, preflight
from selfrepair.ingest.conventions import PRECISIONS
from selfrepair.ingest.engine import unembedding
from selfrepair.ingest.engine.batch_size import auto_batch_size
from selfrepair.ingest.mechanisms.top_rows import TopRowsSearch
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.request.mechanisms import Mechanisms
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import next_token_targets

VOCABULARY, LOGITS_AT_ONCE = 6_000, 2**14
N_PROMPTS, SEQ_LEN = 4, 9


class Allocations(TorchDispatchMode):
    """Keeps how many numbers the largest tensor has that an operation made, parameters and views of them left out."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.largest = 0
        self._known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        for value in tree_leaves(made):
            if isinstance(value, torch.Tensor) and value.untyped_storage().data_ptr() not in self._known:
                self.largest = max(self.largest, value.untyped_storage().nbytes() // value.element_size())
        return made


@pytest.fixture(scope="module")
def adapter():
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=8, n_layer=2, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    return adapt(GPT2LMHeadModel(config).eval(), "wide")


def test_a_run_never_holds_the_logits_of_all_its_rows(adapter, monkeypatch):
    monkeypatch.setattr(unembedding, "LOGITS_AT_ONCE", {"cpu": LOGITS_AT_ONCE})
    tokens = torch.randint(VOCABULARY, (N_PROMPTS, SEQ_LEN), generator=torch.Generator().manual_seed(1))
    targets, partners = next_token_targets(tokens), tokens.roll(1, 0)[:, :-1]
    mechanisms = Mechanisms(edges=True, neurons="last", logit_lens=True, logprobs=True)
    settings = RunSettings(["resample", "mean", "zero"], adapter.heads, mechanisms=mechanisms)
    assert targets.ids.numel() * VOCABULARY > 10 * LOGITS_AT_ONCE
    with Allocations(adapter.model) as allocations:
        measurer = Measurer(adapter, settings, batch_size=8)
        search = TopRowsSearch(settings.heads, targets.ids.numel())
        measurer.means = measurer.head_value_sums(tokens)
        measurer.find_top_rows(search, targets, partners, range(N_PROMPTS))
        measurer.top_rows = search.found()
        measurer.measure(targets, partners, range(N_PROMPTS))
    assert LOGITS_AT_ONCE // 2 < allocations.largest <= LOGITS_AT_ONCE


def test_preflight_holds_the_logits_of_few_positions(adapter):
    tokens = torch.arange(4 * 16).view(4, 16)
    with Allocations(adapter.model) as allocations:
        preflight(adapter, tokens, PRECISIONS["float32"], "wide")
    assert VOCABULARY < allocations.largest <= 2 * POSITIONS * VOCABULARY


def test_slices_give_the_prediction_of_the_whole_vocabulary(adapter, monkeypatch):
    stream = 4 * torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2))
    targets = torch.randint(VOCABULARY, (2, 5), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        logits = adapter.unembedding(adapter.final_norm(stream))
        logprobs = logits.log_softmax(-1)
        own = logits.gather(-1, targets[..., None])
        for at_once in (13_370, 2**22):  # several slices, the last of them narrower, and one
            monkeypatch.setattr(unembedding, "LOGITS_AT_ONCE", {"cpu": at_once})
            found = unembedding.predict(adapter, stream, targets)
            close = {"rtol": 0, "atol": 2e-5}
            torch.testing.assert_close(found.logit, own[..., 0] - logits.mean(-1), **close)
            torch.testing.assert_close(found.logprob, logprobs.gather(-1, targets[..., None])[..., 0], **close)
            torch.testing.assert_close(found.entropy, -(logprobs.exp() * logprobs).sum(-1), **close)
            assert int((found.rank - 1 - (logits > own).sum(-1)).abs().max()) <= 1


def test_the_best_token_has_rank_one_however_it_is_rounded(adapter):
    """Its own logit is a dot product, the others' are of a matrix product: it is not compared with itself."""
    stream = torch.randn(3, 40, 8, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        best = adapter.unembedding(adapter.final_norm(stream)).argmax(-1)
        assert (unembedding.predict(adapter, stream, best).rank == 1).all()


def test_the_automatic_batch_leaves_room_on_a_gpu_for_slices_of_the_vocabulary(adapter, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    gpu = _OnGpu(adapter)
    free = 2**40
    assert auto_batch_size(gpu, 16) > 1
    free = unembedding.slices_bytes(gpu.device) - 1
    assert auto_batch_size(gpu, 16) == 1


class _OnGpu:
    """The numbers of an adapter that the batch size depends on, as if it were on a GPU."""

    def __init__(self, adapter) -> None:
        self.device, self.layer_dtype = torch.device("cuda"), adapter.layer_dtype
        self.devices = [self.device]
        self.d_mlp, self.d_model = adapter.d_mlp, adapter.d_model
