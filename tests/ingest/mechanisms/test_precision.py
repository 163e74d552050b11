"""With TF32 in the layers, whatever is summed or projected from them is still in full float32."""

import itertools

import pytest
import torch
from torch.overrides import TorchFunctionMode

from selfrepair.ingest.mechanisms.top_rows import TopRowsSearch
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.request.mechanisms import Mechanisms
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import next_token_targets
from support import families


class Products(TorchFunctionMode):
    """Notes the precision in which every einsum is computed; the families' own layers use none."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, str]] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.einsum:
            self.seen.add((args[0], torch.get_float32_matmul_precision()))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def tf32():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("tf32")
def test_sums_over_edges_are_not_in_tf32():
    adapter = adapt(families.build("gpt2", torch.float32), "gpt2")
    heads = list(itertools.product(range(adapter.n_layers), range(adapter.n_heads)))
    measurer = Measurer(adapter, RunSettings(["zero"], heads, mechanisms=Mechanisms(edges=True)), batch_size=7)
    targets = next_token_targets(torch.tensor([[0, 5, 9, 7], [0, 8, 3, 4]]))
    search = TopRowsSearch(heads, 6)
    measurer.find_top_rows(search, targets, None, range(2))
    measurer.top_rows = search.found()
    with Products() as products:
        measurer.measure(targets, None, range(2))
    assert {precision for _, precision in products.seen} == {"highest"}
    assert any(equation.startswith("cpbr,") for equation, _ in products.seen)
