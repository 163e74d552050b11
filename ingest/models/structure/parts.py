"""The parts of a decoder by role, read off a traced forward: blocks, norms, attention, MLPs and what they are multiplied by.

No name of a family stands here. Modules are told apart by the tensors that pass between them: what attention reads is what the
first norm made of the stream, a norm that reads what attention made is a post-norm. A model that does something else with its
residual stream does not add up, and is refused with what was found.
"""

from itertools import pairwise

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from selfrepair.ingest import compat
from selfrepair.ingest.models.structure.blocks import block_parts
from selfrepair.ingest.models.structure.calls import has_softmax_heads, is_norm, same
from selfrepair.ingest.models.structure.numbers import Numbers
from selfrepair.ingest.models.structure.roles import (
    DecoderParts,
    NotFiniteError,
    OtherShapeError,
)
from selfrepair.ingest.models.structure.trace import Call, trace

_N_PROBED = 11
"""Tokens of the prompt that is traced: not as many as a mixture has experts."""


@torch.no_grad()
def decoder_parts(model: PreTrainedModel) -> DecoderParts:
    """The parts of `model`, found in one forward of a few tokens.

    Raises OtherShapeError where they do not add up to the model's logits, and NotFiniteError where those are no numbers.
    """
    unembedding = model.get_output_embeddings()
    if not isinstance(unembedding, nn.Linear):
        raise OtherShapeError(f"its unembedding is a {type(unembedding).__name__}, not a linear map")
    root = _traced(model, _probe(unembedding))
    if root.out is not None and not bool(root.out.isfinite().all()):
        raise NotFiniteError
    numbers = Numbers(model)
    blocks = _block_calls(model, root)
    hides_softmax = compat.attention_kernel(model) not in ("eager", "sdpa")
    if not any(call.attends or (hides_softmax and has_softmax_heads(call)) for b in blocks for call in b.walk()):
        kinds = ", ".join(sorted({type(child.module).__name__ for child in blocks[0].children if not is_norm(child)}))
        raise OtherShapeError(f"none of its layers has softmax attention (they have {kinds})")
    final_norm, logit_scale, softcap = _head(model, root, blocks[-1], unembedding, numbers)
    hands_on = len(blocks) > 1 and _handed_on(blocks[0], blocks[1]) is not None
    try:
        parts = tuple(block_parts(call, numbers, hands_on=hands_on) for call in blocks)
    except OtherShapeError as error:
        if name := next((name for one, other in pairwise(blocks) if (name := _handed_on(one, other))), None):
            raise OtherShapeError(f"its layers hand on more than the residual stream ({name})") from error
        raise
    return DecoderParts(parts, final_norm, unembedding, logit_scale, softcap)


def _handed_on(one: Call, other: Call) -> str | None:
    """An argument of a block that the one before it made beside the stream."""
    made = one.returned[1:] if isinstance(one.returned, tuple) else ()
    found = (name for name, value in other.arguments().items() if any(value is beside for beside in made))
    return next(found, None)


def _traced(model: PreTrainedModel, tokens: Int[Tensor, "1 pos"]) -> Call:
    try:
        return trace(model, tokens)
    except (TypeError, AttributeError, ValueError, LookupError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or compat.says_out_of_memory(error):
            raise
        raise OtherShapeError(
            f"its own forward of token ids fails ({str(error).splitlines()[0].rstrip('.')})"
        ) from error


def _probe(unembedding: nn.Linear) -> Int[Tensor, "1 pos"]:
    """Different tokens from the middle of the vocabulary: those at its beginning may be for padding."""
    n_tokens = unembedding.out_features
    ids = (n_tokens // 2 + torch.arange(_N_PROBED)) % n_tokens
    return ids[None].to(unembedding.weight.device)


def _block_calls(model: PreTrainedModel, root: Call) -> list[Call]:
    """The blocks' calls: those of the list of modules that all read and make the residual stream, each once and in order."""
    calls = list(root.walk())
    by_module: dict[nn.Module, list[Call]] = {}
    for call in calls:
        by_module.setdefault(call.module, []).append(call)
    best: list[Call] = []
    for modules in model.modules():
        if not isinstance(modules, nn.ModuleList) or not len(modules):
            continue
        found = [by_module.get(module, []) for module in modules]
        if any(len(of_module) != 1 for of_module in found):
            continue
        chain = [of_module[0] for of_module in found]
        is_longer = sum(1 for call in chain for _ in call.walk()) > sum(1 for call in best for _ in call.walk())
        if is_longer and all(same(before.out, after.x) for before, after in pairwise(chain)):
            best = chain
    if not best or best[0].x is None or best[0].x.ndim != 3:
        raise OtherShapeError("it has no list of layers through which one residual stream passes")
    return best


def _head(
    model: PreTrainedModel, root: Call, last: Call, unembedding: nn.Linear, numbers: Numbers
) -> tuple[nn.Module, float, float | None]:
    """The final norm, the logits' factor and their soft-cap."""
    calls = list(root.walk())
    after = calls[calls.index(last) + 1 + sum(1 for _ in last.walk()) :]
    last_linear = next((call for call in after if call.module is unembedding), None)
    if any(is_norm(call) and same(call.out, last.out) for call in last.walk()):
        raise OtherShapeError(
            "it normalises the residual stream itself after its layers' parts, so that head outputs are not terms of it"
        )
    norm = next((call for call in after if same(call.x, last.out) and call.out is not None and not call.children), None)
    if last_linear is None or norm is None or last_linear.x is None or last_linear.out is None or norm.out is None:
        raise OtherShapeError("no final norm and unembedding were seen after its layers")
    if norm.out.ndim == last_linear.x.ndim == 3 and norm.out.shape[1] > last_linear.x.shape[1]:
        raise OtherShapeError("it puts positions of its own before those of the prompt")
    before = numbers.factor(norm.out, last_linear.x, 0.0) if norm.out.shape == last_linear.x.shape else None
    if before is None:
        between = after[after.index(norm) + 1 : after.index(last_linear)]
        dense = [call for call in between if isinstance(call.module, nn.Linear)]
        if len(dense) == 1 and same(dense[0].x, norm.out):
            raise OtherShapeError(
                f"a dense layer ({dense[0].name}) and its activation stand between its final norm and its unembedding, so that "
                "logits are not linear in the residual stream"
            )
        raise OtherShapeError(
            f"something else than its final norm ({norm.name}) stands between its layers and its unembedding"
        )
    logits, raw = root.out, last_linear.out
    assert logits is not None, "a causal language model returns logits"
    cap = _softcap(model)
    if cap:
        uncapped = logits.double().div(cap).clamp(-1 + 1e-7, 1 - 1e-7).atanh().mul(cap)
        factor = numbers.factor(raw, uncapped, float(uncapped.abs().max()))
    else:
        factor = numbers.factor(raw, logits, 0.0)
    if factor is None:
        raise OtherShapeError("its logits are not a multiple of what its unembedding makes")
    return norm.module, before * factor, float(cap) if cap else None


def _softcap(model: PreTrainedModel) -> float | None:
    """The number that the configuration bends the final logits by."""
    config = model.config.get_text_config()
    names = ("final_logit_softcapping", "logits_soft_cap", "final_logit_softcap", "output_logits_soft_cap")
    return next((float(value) for name in names if (value := getattr(config, name, None))), None)
