"""A small model measured in memory, with mechanisms, without a run."""

import itertools

import torch

from selfrepair.ingest.conventions import ABLATIONS
from selfrepair.ingest.mechanisms.top_rows import TopRowsSearch
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.request.mechanisms import Mechanisms
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import next_token_targets
from support import families

PARTNERS = [1, 2, 3, 4, 0]

PROMPTS, SEQ = 5, 9
ALL = Mechanisms(edges=True, neurons="all", logit_lens=True, logprobs=True)


def prompts() -> torch.Tensor:
    tokens = torch.randint(2, families.VOCABULARY, (PROMPTS, SEQ), generator=torch.Generator().manual_seed(3))
    tokens[:, 0] = 0
    return tokens


def measure(model, *, batch_size: int = 7, ablations=ABLATIONS, mechanisms=ALL, given=(), heads=None, shares=5):
    """The heads' top rows are a fifth of all here: 2 % of 40 rows would be none to test on."""
    adapter = adapt(model, "test")
    heads = heads or [
        at for at in itertools.product(range(adapter.n_layers), range(adapter.n_heads)) if at not in given
    ]
    settings = RunSettings(ablations, heads, given=given, mechanisms=mechanisms)
    measurer = Measurer(adapter, settings, batch_size=batch_size)
    tokens = prompts()
    measurer.means = measurer.head_value_sums(tokens) / tokens.numel()
    n_rows = PROMPTS * (SEQ - 1), PROMPTS * (SEQ - 2)
    search = TopRowsSearch(heads, *(n * 50 // shares for n in n_rows[: len(settings.top_populations)]))
    for first in range(0, PROMPTS, 2):
        here = slice(first, first + 2)
        measurer.find_top_rows(
            search, next_token_targets(tokens[here]), tokens[PARTNERS][here, :-1], range(PROMPTS)[here]
        )
    measurer.top_rows = search.found()
    return measurer, measurer.measure(next_token_targets(tokens), tokens[PARTNERS][:, :-1], range(PROMPTS))
