"""The parts of a decoder by role, read off a traced forward: blocks, norms, attention, MLPs and what they are multiplied by.

No name of a family stands here. Modules are told apart by the tensors that pass between them: what attention reads is what the
first norm made of the stream, a norm that reads what attention made is a post-norm. A model that does something else with its
residual stream does not add up, and is refused with what was found.
"""

import inspect
import re
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from selfrepair.ingest import compat
from selfrepair.ingest.models.structure.additions import Addition, additions
from selfrepair.ingest.models.structure.numbers import Numbers
from selfrepair.ingest.models.structure.roles import (
    Beside,
    BlockParts,
    Branch,
    DecoderParts,
    NotFiniteError,
    Nothing,
    OtherShapeError,
    Projection,
)
from selfrepair.ingest.models.structure.trace import Call, trace

RESIDUAL = "residual"
"""Name of the argument with the residual stream, in families whose modules add their output to it themselves."""

_ATTENTION = re.compile("attention|attn", re.IGNORECASE)
_WITHOUT_SOFTMAX = re.compile("linear|lightning|delta|recurrent|mamba|conv", re.IGNORECASE)
_NORM = re.compile("norm", re.IGNORECASE)
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
    if not any(call.attends or (hides_softmax and _has_softmax_heads(call)) for b in blocks for call in b.walk()):
        kinds = ", ".join(sorted({type(child.module).__name__ for child in blocks[0].children if not _is_norm(child)}))
        raise OtherShapeError(f"none of its layers has softmax attention (they have {kinds})")
    final_norm, logit_scale, softcap = _head(model, root, blocks[-1], unembedding, numbers)
    parts = tuple(_block(call, numbers) for call in blocks)
    return DecoderParts(parts, final_norm, unembedding, logit_scale, softcap)


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
        if is_longer and all(_same(before.out, after.x) for before, after in pairwise(chain)):
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
    if any(_is_norm(call) and _same(call.out, last.out) for call in last.walk()):
        raise OtherShapeError(
            "it normalises the residual stream itself after its layers' parts, so that head outputs are not terms of it"
        )
    norm = next(
        (call for call in after if _same(call.x, last.out) and call.out is not None and not call.children), None
    )
    if last_linear is None or norm is None or last_linear.x is None or last_linear.out is None or norm.out is None:
        raise OtherShapeError("no final norm and unembedding were seen after its layers")
    before = numbers.factor(norm.out, last_linear.x, 0.0) if norm.out.shape == last_linear.x.shape else None
    if before is None:
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


def _block(call: Call, numbers: Numbers) -> BlockParts:
    """The parts of one block."""
    where, stream = call.name, call.x
    assert stream is not None, "blocks are chained by their streams"
    parts = [child for child in _parts_of(call) if child.out is not None and not _does_nothing(child)]
    of_stream = [child for child in parts if not _is_norm(child)]
    if len(of_stream) == 1:
        return _block_of_one(call, parts, of_stream[0], numbers)
    attention = _attention_call(parts, where)
    place = parts.index(attention)
    ln1, attention_factor = _norm_before(parts[:place], attention, stream, numbers, where)
    has_heads = _has_softmax_heads(attention)
    projection = _output_projection(attention, stream, where) if has_heads else None
    attention_post = None if adds_stream(attention.module) else _norm_after(parts[place:], attention.out)
    rest = [child for child in parts if child not in (ln1, attention, attention_post)]
    norms, mlps = [child for child in rest if _is_norm(child)], [child for child in rest if not _is_norm(child)]
    beside = _beside_attention(mlps, ln1)
    mlps = [child for child in mlps if child not in beside]
    if not mlps:
        raise OtherShapeError(f"{where} has no MLP")
    ln2 = next((norm for norm in norms if _same(norm.out, mlps[0].x)), None)
    shared = ln2 is None and ln1 is not None and _same(ln1.out, mlps[0].x)
    if shared:
        ln2 = ln1
    reads = mlps[0].x if ln2 is None else ln2.x
    assert reads is not None, "a module that was called with no tensor made none"
    mlps, tail = _mlps_and_branch(call, mlps, norms, reads, numbers)
    is_chain = _is_chain(mlps)
    of_mlp = _made_by_mlps(mlps, reads, is_chain, where)
    mlp_post = None if adds_stream(mlps[-1].module) else _norm_after(norms, of_mlp)
    branch, after_mlp = _branch(call, tail, norms, numbers)
    in_branch = [] if branch is None else list(branch.modules)
    if others := [norm for norm in norms if norm not in (ln2, mlp_post) and norm.module not in in_branch]:
        name = others[0].name.rpartition(".")[2]
        raise OtherShapeError(f"{where} has another norm ({name}) than those of its residual stream")
    is_parallel = _same(reads, stream)
    made = [_added(attention, stream) if attention_post is None else attention_post.out, *(one.out for one in beside)]
    of_mlp = of_mlp if mlp_post is None else mlp_post.out
    assert of_mlp is not None
    if is_parallel and branch is not None:
        raise OtherShapeError(f"{where} has more parts than attention and an MLP side by side")
    if is_parallel:
        attention_addition = mlp_addition = _added_together(call, made, of_mlp, numbers)
        of_beside: tuple[Addition, ...] = ()
    else:
        attention_addition, *others_beside = _additions(call, stream, made, reads, "attention", numbers)
        of_beside = tuple(others_beside)
        (mlp_addition,) = _additions(call, reads, [of_mlp], after_mlp, "the MLP", numbers)
    return BlockParts(
        module=call.module,
        ln1=_module(ln1),
        attention=attention.module,
        output_projection=projection,
        attention_post_norm=_module(attention_post),
        ln2=_module(ln2),
        mlp=tuple(mlp.module for mlp in mlps),
        is_chain=is_chain,
        mlp_output=_mlp_output(mlps[-1], _made_by_mlps(mlps, reads, is_chain, where)) if is_chain else None,
        mlp_post_norm=_module(mlp_post),
        attention_addition=attention_addition,
        mlp_addition=mlp_addition,
        is_parallel=is_parallel,
        attention_factor=attention_factor,
        beside=tuple(Beside(one.module, addition) for one, addition in zip(beside, of_beside, strict=True)),
        branch=branch,
    )


def _beside_attention(others: Sequence[Call], ln1: Call | None) -> list[Call]:
    """Of a block's other parts, those that mix positions and read what attention reads."""
    if ln1 is None or len(others) < 2:
        return []
    return [one for one in others if _same(one.x, ln1.out) and not _is_positionwise(one)]


def _is_chain(calls: Sequence[Call]) -> bool:
    return all(_same(before.out, after.x) for before, after in pairwise(calls))


def _mlps_and_branch(
    call: Call, others: Sequence[Call], norms: Sequence[Call], reads: Tensor, numbers: Numbers
) -> tuple[Sequence[Call], Sequence[Call]]:
    """The MLP's modules, and those after it that read the stream to which it was added."""
    if _is_chain(others) or all(_same(one.x, others[0].x) for one in others):
        return others, ()
    for place in range(1, len(others)):
        mlps, tail = others[:place], others[place:]
        after, is_chain = _read_by(tail[0], norms), _is_chain(mlps)
        if after is None or after.shape != reads.shape or not (is_chain or len({id(one.x) for one in mlps}) == 1):
            continue
        made = _made_by_mlps(mlps, reads, is_chain, call.name)
        post = _norm_after(norms, made)
        made = made if post is None or post.out is None else post.out
        size = max(float(tensor.abs().max()) for tensor in (reads, after))
        if additions(reads, [made], after, size, numbers, call.module) is not None:
            return mlps, tail
    return others, ()


def _read_by(first: Call, norms: Sequence[Call]) -> Tensor | None:
    """The stream that a branch reads, through a norm or not."""
    norm = next((norm for norm in norms if _same(norm.out, first.x)), None)
    return first.x if norm is None else norm.x


def _branch(call: Call, tail: Sequence[Call], norms: Sequence[Call], numbers: Numbers) -> tuple[Branch | None, Tensor]:
    """The branch of these modules, and the stream after the MLP."""
    after = call.out
    assert after is not None
    if not tail:
        return None, after
    before = _read_by(tail[0], norms)
    assert before is not None
    norm, post = next((norm for norm in norms if _same(norm.out, tail[0].x)), None), _norm_after(norms, tail[-1].out)
    calls = [one for one in (norm, *tail, post) if one is not None]
    gated, argument = None, None
    for number, (one, other) in enumerate(pairwise(calls), start=1):
        if _same(one.out, other.x):
            continue
        argument = _gate(call, one, other) if gated is None else None
        if argument is None:
            names = ", ".join(part.name.rpartition(".")[2] for part in tail)
            raise OtherShapeError(f"{call.name} has more parts than attention and an MLP ({names})")
        gated = number
    made = calls[-1].out
    assert made is not None
    (addition,) = _additions(call, before, [made], after, calls[0].name.rpartition(".")[2], numbers)
    return Branch(tuple(one.module for one in calls), gated, argument, addition), before


def _gate(call: Call, one: Call, other: Call) -> str | None:
    """The argument of the block that stands between what a module made and what the next one read."""
    assert one.out is not None
    for name, value in call.arguments().items():
        if value.shape == one.out.shape and _same(one.out * value, other.x):
            return name
    return None


def _additions(
    call: Call, before: Tensor, made: Sequence[Tensor | None], after: Tensor, part: str, numbers: Numbers
) -> tuple[Addition, ...]:
    """How what a part made joins the stream."""
    known = [one for one in made if one is not None]
    size = max(float(tensor.abs().max()) for tensor in (before, after))
    found = additions(before, known, after, size, numbers, call.module)
    if found is None:
        raise OtherShapeError(f"what {part} of {call.name} makes is not what is added to the residual stream")
    return found


def _added_together(call: Call, made: Sequence[Tensor | None], of_mlp: Tensor, numbers: Numbers) -> Addition:
    """How attention and the MLP of a parallel block join the stream."""
    before, after, of_attention = call.x, call.out, made[0]
    assert before is not None
    assert after is not None
    assert of_attention is not None
    size = max(float(tensor.abs().max()) for tensor in (before, after))
    factor = numbers.factor(of_attention + of_mlp.view_as(of_attention), after - before, size)
    if factor is None or len(made) > 1:
        raise OtherShapeError(f"what attention of {call.name} makes is not what is added to the residual stream")
    return Addition(times=factor)


def _parts_of(call: Call) -> list[Call]:
    """The calls within a block; of a module that holds attention and its norm, as in DBRX, those within it."""
    return [
        part
        for child in call.children
        for part in (
            child.children if any(_is_norm(inner) and _same(inner.x, call.x) for inner in child.children) else [child]
        )
    ]


def _block_of_one(call: Call, parts: Sequence[Call], part: Call, numbers: Numbers) -> BlockParts:
    """The parts of a block that is only attention, or what stands in its place, or only an MLP."""
    stream, has_heads = call.x, _has_softmax_heads(part)
    assert stream is not None, "blocks are chained by their streams"
    is_mlp = not has_heads and _is_positionwise(part)
    (norm, factor), post = _norm_before(parts, part, stream, numbers, call.name), _norm_after(parts, part.out)
    if is_mlp and factor != 1:
        raise OtherShapeError(f"the MLP of {call.name} reads a multiple of its norm")
    made, after = (part if post is None else post).out, call.out
    assert made is not None
    assert after is not None
    (addition,) = _additions(call, stream, [made], after, part.name.rpartition(".")[2], numbers)
    ln, post_norm = _module(norm), _module(post)
    return BlockParts(
        module=call.module,
        ln1=None if is_mlp else ln,
        attention=Nothing() if is_mlp else part.module,
        output_projection=_output_projection(part, stream, call.name) if has_heads else None,
        attention_post_norm=None if is_mlp else post_norm,
        ln2=ln if is_mlp else None,
        mlp=(part.module if is_mlp else Nothing(),),
        is_chain=True,
        mlp_output=_mlp_output(part, part.out) if is_mlp and part.out is not None else None,
        mlp_post_norm=post_norm if is_mlp else None,
        attention_factor=factor,
        attention_addition=Addition() if is_mlp else addition,
        mlp_addition=addition if is_mlp else Addition(),
        is_parallel=False,
    )


def _is_positionwise(call: Call) -> bool:
    """Whether a module makes of one position alone what it makes of it after others."""
    assert call.x is not None, "modules that were given no tensor have no place in a block"
    assert call.out is not None
    try:
        alone = call.module(call.x[:, -1:])
    except (TypeError, AttributeError, ValueError, RuntimeError):  # it needs more than the stream
        return False
    return _same(alone[0] if isinstance(alone, tuple) else alone, call.out[:, -1:], is_rounded=True)


def _attention_call(parts: Sequence[Call], where: str) -> Call:
    """The part that mixes positions: attention or, in a block without softmax heads, what stands in its place."""
    found = [child for child in parts if _has_softmax_heads(child)]
    if not found:
        found = [child for child in parts if not _is_norm(child)][:1]
    if len(found) == 1:
        return found[0]
    kinds = ", ".join(sorted({type(child.module).__name__ for child in parts}))
    raise OtherShapeError(f"{where} has {len(found) or 'no'} attention module{'s'[: len(found)]} (it has {kinds})")


def _has_softmax_heads(call: Call) -> bool:
    kind = _own_name(type(call.module))
    return (call.attends or bool(_ATTENTION.search(kind))) and not _WITHOUT_SOFTMAX.search(kind) and not _is_norm(call)


def _own_name(module_class: type[nn.Module]) -> str:
    """A class's name in lower case without its family's, which may be that of another kind of layer (RecurrentGemma)."""
    family = module_class.__module__.split(".")[-2:][0].replace("_", "")
    return module_class.__name__.lower().removeprefix(family)


def _norm_before(
    before: Sequence[Call], attention: Call, stream: Tensor, numbers: Numbers, where: str
) -> tuple[Call | None, float]:
    """The norm through which attention reads the stream, None where it reads the stream itself, and the factor between them."""
    norms = [child for child in before if _is_norm(child)]
    norm, factor = next((child for child in norms if _same(child.out, attention.x)), None), 1.0
    if norm is None and not _same(attention.x, stream):
        for child in norms:
            if child.out is not None and attention.x is not None and child.out.shape == attention.x.shape:
                found = numbers.factor(child.out, attention.x, 0.0)
                norm, factor = (norm, factor) if found is None else (child, found)
    if not _same(attention.x if norm is None else norm.x, stream):
        raise OtherShapeError(f"attention of {where} reads something else than the residual stream or its norm")
    return norm, factor


def _norm_after(calls: Sequence[Call], made: Tensor | None) -> Call | None:
    """The norm of what a part made."""
    return next((call for call in calls if _is_norm(call) and _same(call.x, made)), None)


def _output_projection(attention: Call, stream: Tensor, where: str) -> Projection:
    """The linear map from all heads' z to what attention makes."""
    made = _added(attention, stream)
    for call in reversed(list(attention.walk())):
        if isinstance(call.module, Projection) and _same(call.out, made, is_rounded=adds_stream(attention.module)):
            if not call.module.weight.is_floating_point():
                raise OtherShapeError(f"the weights of {call.name} are quantised")
            return call.module
    raise OtherShapeError(f"attention of {where} has no output projection to split by head")


def _made_by_mlps(mlps: Sequence[Call], reads: Tensor, is_chain: bool, where: str) -> Tensor:
    if is_chain:
        return _added(mlps[-1], reads)
    if all(_same(mlp.x, mlps[0].x) for mlp in mlps):
        return torch.stack([_added(mlp, reads) for mlp in mlps]).sum(dim=0)
    names = ", ".join(mlp.name.rpartition(".")[2] for mlp in mlps)
    raise OtherShapeError(f"{where} has more parts than attention and an MLP ({names})")


def _mlp_output(last: Call, made: Tensor) -> Projection | None:
    """The one linear map from neurons' activations to what the MLP makes; None for a mixture of experts."""
    for call in reversed([last, *last.walk()]):
        if isinstance(call.module, Projection) and _same(call.out, made, is_rounded=adds_stream(last.module)):
            return call.module
    return None


def adds_stream(module: nn.Module) -> bool:
    """Whether a module adds the residual stream to what it makes itself, as in Bloom."""
    return RESIDUAL in inspect.signature(module.forward).parameters


def _added(call: Call, stream: Tensor) -> Tensor:
    """What a part makes, without the stream that it may have added."""
    assert call.out is not None, "calls that made no tensor are left out"
    return call.out - stream if adds_stream(call.module) else call.out


def _module(call: Call | None) -> nn.Module | None:
    return None if call is None else call.module


def _does_nothing(call: Call) -> bool:
    return _same(call.x, call.out) and not any(True for _ in call.module.parameters())


def _is_norm(call: Call) -> bool:
    return bool(_NORM.search(type(call.module).__name__)) and call.x is not None and not call.children


def _same(one: Tensor | None, other: Tensor | None, *, is_rounded: bool = False) -> bool:
    """Whether two tensors are the same numbers, whatever their shapes; but for rounding where one is a difference."""
    if one is None or other is None or one.numel() != other.numel():
        return False
    a, b = one.flatten(), other.flatten()
    return bool((a - b).abs().max() <= 1e-2 * b.abs().max()) if is_rounded else torch.equal(a, b)
