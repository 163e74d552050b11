"""Weights that are stored in half precision, and computed with in float32: each matrix is cast as it is used."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from selfrepair.ingest.models.weights import cast_parameters


class _Upcast(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def forward(self, stored: Tensor) -> Tensor:
        return stored.to(self._dtype)


def store_matrices(model: PreTrainedModel, stored: torch.dtype, computed: torch.dtype) -> None:
    """Store the matrices of linear maps and embeddings in one type, and have the model compute in another; all other
    parameters, such as gains and biases, are of the latter.
    """
    found = {module for module in model.modules() if isinstance(module, nn.Linear | Conv1D | nn.Embedding)}
    matrices = {id(module.weight) for module in found}
    cast_parameters(model, stored, lambda parameter: id(parameter) in matrices)
    matrices = {id(module.weight) for module in found}  # now those that were cast
    cast_parameters(model, computed, lambda parameter: id(parameter) not in matrices)
    for module in found:
        if type(module).forward is nn.Embedding.forward:  # a few rows of the matrix are cast, not the whole
            module.register_forward_hook(lambda _, __, rows: rows.to(computed))
        else:
            parametrize.register_parametrization(module, "weight", _Upcast(computed), unsafe=True)


def stored_weight(module: nn.Module) -> Tensor:
    """The weight of a module as it is stored, of which parts can be cast without the whole."""
    weight: Tensor = (
        module.parametrizations.weight.original  # type: ignore[union-attr, assignment]
        if parametrize.is_parametrized(module, "weight")
        else module.weight
    )
    return weight
