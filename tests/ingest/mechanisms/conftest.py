"""Small models of several families."""

import pytest

from support.tiers import first_of_each


@pytest.fixture(scope="module", params=first_of_each(4, ["gpt2", "pythia", "llama-grouped", "opt"]))
def family(request):
    return request.param
