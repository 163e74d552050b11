"""The parts of one block by role, told apart by the tensors that pass between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from selfrepair.ingest.models.structure.additions import Addition, additions
from selfrepair.ingest.models.structure.calls import (
    added,
    adds_stream,
    does_nothing,
    has_softmax_heads,
    is_norm,
    is_positionwise,
    module_of,
    same,
)
from selfrepair.ingest.models.structure.numbers import Numbers
from selfrepair.ingest.models.structure.rest import RestOfBlock
from selfrepair.ingest.models.structure.roles import Beside, BlockParts, Branch, Nothing, OtherShapeError, Projection
from selfrepair.ingest.models.structure.trace import Call


def block_parts(call: Call, numbers: Numbers, *, hands_on: bool = False) -> BlockParts:
    """The parts of one block; `hands_on` says whether it gives the next one more than the stream."""
    where, stream = call.name, call.x
    assert stream is not None, "blocks are chained by their streams"
    parts = [child for child in _parts_of(call) if child.out is not None and not does_nothing(child)]
    of_stream = [child for child in parts if not is_norm(child)]
    if len(of_stream) == 1:
        return _block_of_one(call, parts, of_stream[0], numbers)
    attention = _attention_call(parts, where)
    place = parts.index(attention)
    ln1, attention_factor = _norm_before(parts[:place], attention, stream, numbers, where)
    has_heads = has_softmax_heads(attention)
    projection = _output_projection(attention, stream, where) if has_heads else None
    attention_post = None if adds_stream(attention.module) else _norm_after(parts[place:], attention.out)
    rest = [child for child in parts if child not in (ln1, attention, attention_post)]
    norms, mlps = [child for child in rest if is_norm(child)], [child for child in rest if not is_norm(child)]
    beside = _beside_attention(mlps, ln1)
    reads_attention = attention.out if attention_post is None else attention_post.out
    joins = [child for child in mlps if same(child.x, reads_attention) or _makes_the_block(child, mlps, call)]
    mlps = [child for child in mlps if child not in (*beside, *joins)]
    if not mlps:
        raise OtherShapeError(f"{where} has no MLP")
    made = [added(attention, stream) if attention_post is None else attention_post.out, *(one.out for one in beside)]
    try:
        mlp = _mlp(call, mlps, norms, ln1, numbers)
    except OtherShapeError:
        found = _rest_of_block(call, parts[place + 1 :], attention, made, numbers)
        if found is None:
            _refuse_if_not_added(call, parts, attention)
            raise
        mlp = found
    branch, after_mlp = _branch(call, mlp.tail, norms, numbers)
    is_parallel = same(mlp.reads, stream)
    if is_parallel and branch is not None:
        raise OtherShapeError(f"{where} has more parts than attention and an MLP side by side")
    if is_parallel:
        attention_addition = mlp_addition = _added_together(call, made, mlp.adds, numbers)
        of_beside: tuple[Addition, ...] = ()
    else:
        attention_addition, *others_beside = _additions(call, stream, made, mlp.reads, "attention", numbers)
        of_beside = tuple(others_beside)
        (mlp_addition,) = _additions(call, mlp.reads, [mlp.adds], after_mlp, "the MLP", numbers)
    return BlockParts(
        module=call.module,
        ln1=module_of(ln1),
        attention=attention.module,
        output_projection=projection,
        attention_post_norm=module_of(attention_post),
        ln2=mlp.norm,
        mlp=mlp.modules,
        is_chain=mlp.is_chain,
        mlp_output=mlp.output,
        mlp_post_norm=mlp.post_norm,
        attention_addition=attention_addition,
        mlp_addition=mlp_addition,
        is_parallel=is_parallel,
        attention_factor=attention_factor,
        beside=tuple(Beside(one.module, addition) for one, addition in zip(beside, of_beside, strict=True)),
        branch=branch,
        hands_on=hands_on,
    )


@dataclass(frozen=True)
class _MLP:
    """The MLP of a block: the stream that it `reads`, what it `adds` but for a factor, and the calls after it (`tail`)."""

    modules: tuple[nn.Module, ...]
    is_chain: bool
    norm: nn.Module | None
    output: Projection | None
    post_norm: nn.Module | None
    reads: Tensor
    adds: Tensor
    tail: Sequence[Call]


def _mlp(call: Call, others: Sequence[Call], norms: Sequence[Call], ln1: Call | None, numbers: Numbers) -> _MLP:
    """The MLP among the parts that are neither attention nor beside it."""
    norm = next((norm for norm in norms if same(norm.out, others[0].x)), None)
    if norm is None and ln1 is not None and same(ln1.out, others[0].x):
        norm = ln1
    reads = others[0].x if norm is None else norm.x
    assert reads is not None, "a module that was called with no tensor made none"
    mlps, tail = _mlps_and_branch(call, others, norms, reads, numbers)
    is_chain = _is_chain(mlps)
    made = _made_by_mlps(mlps, reads, is_chain, call.name)
    post = None if adds_stream(mlps[-1].module) else _norm_after(norms, made)
    of_branch = [] if not tail else [_norm_before_branch(tail, norms), _norm_after(norms, tail[-1].out)]
    if others := [one for one in norms if one not in (norm, post, *of_branch)]:
        name = others[0].name.rpartition(".")[2]
        raise OtherShapeError(f"{call.name} has another norm ({name}) than those of its residual stream")
    adds = made if post is None else post.out
    assert adds is not None
    output = _mlp_output(mlps[-1], made) if is_chain else None
    modules = tuple(mlp.module for mlp in mlps)
    return _MLP(modules, is_chain, module_of(norm), output, module_of(post), reads, adds, tail)


def _rest_of_block(
    call: Call, parts: Sequence[Call], attention: Call, made: Sequence[Tensor | None], numbers: Numbers
) -> _MLP | None:
    """An MLP of whatever parts, behind one norm: read off the block itself, in which attention makes zeros. None where that
    does not give what the norm was given, or where attention or the norm does not join the stream.
    """
    stream, after = call.x, call.out
    assert stream is not None
    assert after is not None
    reads = next(
        (
            part.x
            for part in parts
            if part.x is not None
            and part.x.shape == stream.shape
            and _is_plain(_joins(call, stream, made, part.x, numbers))
        ),
        None,
    )
    if reads is None:
        return None
    for post in reversed([part for part in parts if is_norm(part)]):
        tail = parts[parts.index(post) + 1 :]
        ends = tail[0].x if tail else after
        if post.out is None or ends is None or _joins(call, reads, [post.out], ends, numbers) is None:
            continue
        module = RestOfBlock(call, attention.module, post.module)
        if post.x is not None and same(module(reads), post.x, is_rounded=True):
            return _MLP(
                (module,), True, None, None, post.module, reads, post.out, [part for part in tail if not is_norm(part)]
            )
    return None


def _is_plain(found: list[Addition] | None) -> bool:
    """Whether one part is added to the stream as it is."""
    return found is not None and len(found) == 1 and found[0].is_plain


def _joins(
    call: Call, before: Tensor | None, made: Sequence[Tensor | None], after: Tensor, numbers: Numbers
) -> list[Addition] | None:
    """How these parts join the stream; None where they do not."""
    if before is None:
        return None
    known = [one for one in made if one is not None]
    if any(one.numel() != before.numel() for one in (after, *known)):
        return None
    after = after.view_as(before)  # some see all positions as one row of tokens
    size = max(float(tensor.abs().max()) for tensor in (before, after))
    found = additions(before, known, after, size, numbers, call.module)
    return None if found is None else list(found)


def _refuse_if_not_added(call: Call, parts: Sequence[Call], attention: Call) -> None:
    """Raise OtherShapeError where another part makes the whole stream, and reads what attention made besides."""
    for part in parts:
        if part is not attention and same(part.x, call.x) and same(part.out, call.out):
            raise OtherShapeError(
                f"what attention of {call.name} makes is read by {part.name.rpartition('.')[2]} alone, and not added to the "
                "residual stream"
            )


def _makes_the_block(part: Call, others: Sequence[Call], call: Call) -> bool:
    """Whether a part joins what another made with the stream, so that its output is the block's."""
    return same(part.out, call.out) and any(other is not part and same(part.x, other.out) for other in others)


def _beside_attention(others: Sequence[Call], ln1: Call | None) -> list[Call]:
    """Of a block's other parts, those that mix positions and read what attention reads."""
    if ln1 is None or len(others) < 2:
        return []
    return [one for one in others if same(one.x, ln1.out) and not is_positionwise(one)]


def _is_chain(calls: Sequence[Call]) -> bool:
    return all(same(before.out, after.x) for before, after in pairwise(calls))


def _read_the_same(calls: Sequence[Call]) -> bool:
    return all(same(call.x, calls[0].x) for call in calls)


def _mlps_and_branch(
    call: Call, others: Sequence[Call], norms: Sequence[Call], reads: Tensor, numbers: Numbers
) -> tuple[Sequence[Call], Sequence[Call]]:
    """The MLP's modules, and those after it that read the stream to which it was added."""
    if _is_chain(others) or _read_the_same(others):
        return others, ()
    for place in range(1, len(others)):
        mlps, tail = others[:place], others[place:]
        after, is_chain = _read_by(tail, norms), _is_chain(mlps)
        if after is None or after.shape != reads.shape or not (is_chain or _read_the_same(mlps)):
            continue
        made = _made_by_mlps(mlps, reads, is_chain, call.name)
        post = _norm_after(norms, made)
        if _joins(call, reads, [made if post is None else post.out], after, numbers) is not None:
            return mlps, tail
    return others, ()


def _norm_before_branch(tail: Sequence[Call], norms: Sequence[Call]) -> Call | None:
    return next((norm for norm in norms if same(norm.out, tail[0].x)), None)


def _read_by(tail: Sequence[Call], norms: Sequence[Call]) -> Tensor | None:
    """The stream that a branch reads, through a norm or not."""
    norm = _norm_before_branch(tail, norms)
    return tail[0].x if norm is None else norm.x


def _branch(call: Call, tail: Sequence[Call], norms: Sequence[Call], numbers: Numbers) -> tuple[Branch | None, Tensor]:
    """The branch of these modules, and the stream after the MLP."""
    after = call.out
    assert after is not None
    if not tail:
        return None, after
    before = _read_by(tail, norms)
    assert before is not None
    norm, post = _norm_before_branch(tail, norms), _norm_after(norms, tail[-1].out)
    calls = [one for one in (norm, *tail, post) if one is not None]
    gated, argument = None, None
    for number, (one, other) in enumerate(pairwise(calls), start=1):
        if same(one.out, other.x):
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
        if value.shape == one.out.shape and same(one.out * value, other.x):
            return name
    return None


def _additions(
    call: Call, before: Tensor, made: Sequence[Tensor | None], after: Tensor, part: str, numbers: Numbers
) -> tuple[Addition, ...]:
    """How what a part made joins the stream."""
    found = _joins(call, before, made, after, numbers)
    if found is None and any(is_norm(norm) and _joins(call, norm.out, made, after, numbers) for norm in call.children):
        raise OtherShapeError(f"{call.name} adds to its norm of the residual stream, and not to the stream itself")
    if found is None:
        raise OtherShapeError(f"what {part} of {call.name} makes is not what is added to the residual stream")
    return tuple(found)


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
            child.children
            if not is_norm(child) and any(is_norm(inner) and same(inner.x, call.x) for inner in child.children)
            else [child]
        )
    ]


def _block_of_one(call: Call, parts: Sequence[Call], part: Call, numbers: Numbers) -> BlockParts:
    """The parts of a block that is only attention, or what stands in its place, or only an MLP."""
    stream, has_heads = call.x, has_softmax_heads(part)
    assert stream is not None, "blocks are chained by their streams"
    is_mlp = not has_heads and is_positionwise(part)
    (norm, factor), post = _norm_before(parts, part, stream, numbers, call.name), _norm_after(parts, part.out)
    if is_mlp and factor != 1:
        raise OtherShapeError(f"the MLP of {call.name} reads a multiple of its norm")
    made, after = (part if post is None else post).out, call.out
    assert made is not None
    assert after is not None
    (addition,) = _additions(call, stream, [made], after, part.name.rpartition(".")[2], numbers)
    ln, post_norm = module_of(norm), module_of(post)
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


def _attention_call(parts: Sequence[Call], where: str) -> Call:
    """The part that mixes positions: attention or, in a block without softmax heads, what stands in its place."""
    found = [child for child in parts if has_softmax_heads(child)]
    if not found:
        found = [child for child in parts if not is_norm(child)][:1]
    if len(found) == 1:
        return found[0]
    kinds = ", ".join(sorted({type(child.module).__name__ for child in parts}))
    raise OtherShapeError(f"{where} has {len(found) or 'no'} attention module{'s'[: len(found)]} (it has {kinds})")


def _norm_before(
    before: Sequence[Call], attention: Call, stream: Tensor, numbers: Numbers, where: str
) -> tuple[Call | None, float]:
    """The norm through which attention reads the stream, None where it reads the stream itself, and the factor between them."""
    norms = [child for child in before if is_norm(child)]
    norm, factor = next((child for child in norms if same(child.out, attention.x)), None), 1.0
    if norm is None and not same(attention.x, stream):
        for child in norms:
            if child.out is not None and attention.x is not None and child.out.shape == attention.x.shape:
                found = numbers.factor(child.out, attention.x, 0.0)
                norm, factor = (norm, factor) if found is None else (child, found)
    if not same(attention.x if norm is None else norm.x, stream):
        raise OtherShapeError(f"attention of {where} reads something else than the residual stream or its norm")
    return norm, factor


def _norm_after(calls: Sequence[Call], made: Tensor | None) -> Call | None:
    """The norm of what a part made."""
    return next((call for call in calls if is_norm(call) and same(call.x, made)), None)


def _output_projection(attention: Call, stream: Tensor, where: str) -> Projection:
    """The linear map from all heads' z to what attention makes."""
    made = added(attention, stream)
    for call in reversed(list(attention.walk())):
        if isinstance(call.module, Projection) and same(call.out, made, is_rounded=adds_stream(attention.module)):
            if not call.module.weight.is_floating_point():
                raise OtherShapeError(f"the weights of {call.name} are quantised")
            return call.module
    raise OtherShapeError(f"attention of {where} has no output projection to split by head")


def _made_by_mlps(mlps: Sequence[Call], reads: Tensor, is_chain: bool, where: str) -> Tensor:
    if is_chain:
        return added(mlps[-1], reads)
    if _read_the_same(mlps):
        return torch.stack([added(mlp, reads) for mlp in mlps]).sum(dim=0)
    names = ", ".join(mlp.name.rpartition(".")[2] for mlp in mlps)
    raise OtherShapeError(f"{where} has more parts than attention and an MLP ({names})")


def _mlp_output(last: Call, made: Tensor) -> Projection | None:
    """The one linear map from neurons' activations to what the MLP makes; None for a mixture of experts."""
    for call in reversed([last, *last.walk()]):
        if isinstance(call.module, Projection) and same(call.out, made, is_rounded=adds_stream(last.module)):
            return call.module
    return None
