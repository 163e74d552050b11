"""How parts join the residual stream: found from numbers alone, and taken from the block where it has them."""

import pytest
import torch
from torch import nn

from selfrepair.ingest.checks.reaches import reaches
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.models.structure.additions import additions
from selfrepair.ingest.models.structure.numbers import Numbers
from support import families, sweep

WIDTH = 12


@pytest.fixture(scope="module")
def numbers():
    return Numbers(families.build("gpt2"))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.randn(WIDTH, generator=torch.Generator().manual_seed(5)))
        self.bias = nn.Parameter(torch.randn(WIDTH, generator=torch.Generator().manual_seed(6)))
        self.layer_scalar = nn.Buffer(torch.tensor([0.7371]))


@torch.no_grad()
def found(numbers, after, *parts):
    block = Block()
    stream, *made = (torch.randn(1, 11, WIDTH, generator=torch.Generator().manual_seed(n)) for n in range(3))
    made = made[: parts[0] if parts else 1]
    joined = after(block, stream, *made)
    return block, additions(stream, made, joined, float(joined.abs().max()), numbers, block)


def test_a_part_that_is_added_as_it_is_needs_no_factor(numbers):
    _, (addition,) = found(numbers, lambda _, x, a: x + a)
    assert addition.is_plain


def test_numbers_of_the_block_are_taken_as_they_are(numbers):
    block, (addition,) = found(numbers, lambda block, x, a: block.layer_scalar * (x + a))
    assert addition.keep == addition.times == float(block.layer_scalar)
    assert addition.multiplies_stream


def test_vectors_and_constants_of_the_block_are_taken_as_copies(numbers):
    block, (addition,) = found(numbers, lambda block, x, a: block.gain * x + a + block.bias)
    assert torch.equal(addition.keep, block.gain)
    assert torch.equal(addition.offset, block.bias)
    with torch.no_grad():
        block.gain.mul_(2)
    assert not torch.equal(addition.keep, block.gain)


def test_two_parts_have_factors_of_their_own(numbers):
    _, (first, second) = found(numbers, lambda _, x, a, b: x + 0.5 * a + 2.0 * b, 2)
    assert (first.keep, first.times, second.times) == (1.0, 0.5, pytest.approx(2.0))


@pytest.mark.parametrize("after", [lambda _, x, a: a, lambda _, x, a: x.tanh() + a, lambda _, x, a: x + a.relu()])
def test_what_is_no_sum_with_the_stream_is_none(numbers, after):
    assert found(numbers, after)[1] is None


@pytest.mark.parametrize("case", ["gemma4_text", "doge", "beam"])
def test_the_references_factors_are_the_adapters(case):
    with sweep.WithoutFloat32():
        adapter = adapt(sweep.build(case), "small")
        known = reaches(adapter)
    for layer, block in enumerate(adapter.blocks):
        own = block.attention_reach * torch.ones(adapter.d_model) * block.attention_addition.times
        torch.testing.assert_close(own, known.attention[layer] * torch.ones(adapter.d_model), check_dtype=False)
        after = known.stream[layer + 1] * torch.ones(adapter.d_model)
        torch.testing.assert_close(block.reach * torch.ones(adapter.d_model), after, check_dtype=False)
