"""The MLP of a block, what comes after it, and how parts join the stream, told apart by the tensors that pass between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from selfrepair.ingest.models.structure.additions import Addition, additions
from selfrepair.ingest.models.structure.calls import added, adds_stream, is_norm, module_of, same
from selfrepair.ingest.models.structure.numbers import Numbers
from selfrepair.ingest.models.structure.rest import RestOfBlock
from selfrepair.ingest.models.structure.roles import Branch, OtherShapeError, Projection
from selfrepair.ingest.models.structure.trace import Call


@dataclass(frozen=True)
class MLP:
    """The MLP of a block: the stream that it `reads`, what it `adds` but for a factor, and the calls after it (`tail`)."""

    modules: tuple[nn.Module, ...]
    is_chain: bool
    norm: nn.Module | None
    output: Projection | None
    post_norm: nn.Module | None
    reads: Tensor
    adds: Tensor
    tail: Sequence[Call]


def mlp_among(call: Call, others: Sequence[Call], norms: Sequence[Call], ln1: Call | None, numbers: Numbers) -> MLP:
    """The MLP among the parts that are neither attention nor beside it."""
    norm = next((norm for norm in norms if same(norm.out, others[0].x)), None)
    if norm is None and ln1 is not None and same(ln1.out, others[0].x):
        norm = ln1
    reads = others[0].x if norm is None else norm.x
    assert reads is not None, "a module that was called with no tensor made none"
    mlps, tail = _mlps_and_branch(call, others, norms, reads, numbers)
    is_chain = _is_chain(mlps)
    made = _made_by_mlps(mlps, reads, is_chain, call.name)
    post = None if adds_stream(mlps[-1].module) else norm_after(norms, made)
    of_branch = [] if not tail else [_norm_before_branch(tail, norms), norm_after(norms, tail[-1].out)]
    if others := [one for one in norms if one not in (norm, post, *of_branch)]:
        name = others[0].name.rpartition(".")[2]
        raise OtherShapeError(f"{call.name} has another norm ({name}) than those of its residual stream")
    adds = made if post is None else post.out
    assert adds is not None
    output = mlp_output_of(mlps[-1], made) if is_chain else None
    modules = tuple(mlp.module for mlp in mlps)
    return MLP(modules, is_chain, module_of(norm), output, module_of(post), reads, adds, tail)


def rest_of_block(
    call: Call, parts: Sequence[Call], attention: Call, made: Sequence[Tensor | None], numbers: Numbers
) -> MLP | None:
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
            return MLP(
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
        post = norm_after(norms, made)
        if _joins(call, reads, [made if post is None else post.out], after, numbers) is not None:
            return mlps, tail
    return others, ()


def _norm_before_branch(tail: Sequence[Call], norms: Sequence[Call]) -> Call | None:
    return next((norm for norm in norms if same(norm.out, tail[0].x)), None)


def _read_by(tail: Sequence[Call], norms: Sequence[Call]) -> Tensor | None:
    """The stream that a branch reads, through a norm or not."""
    norm = _norm_before_branch(tail, norms)
    return tail[0].x if norm is None else norm.x


def branch_of(
    call: Call, tail: Sequence[Call], norms: Sequence[Call], numbers: Numbers
) -> tuple[Branch | None, Tensor]:
    """The branch of these modules, and the stream after the MLP."""
    after = call.out
    assert after is not None
    if not tail:
        return None, after
    before = _read_by(tail, norms)
    assert before is not None
    norm, post = _norm_before_branch(tail, norms), norm_after(norms, tail[-1].out)
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
    (addition,) = additions_of(call, before, [made], after, calls[0].name.rpartition(".")[2], numbers)
    return Branch(tuple(one.module for one in calls), gated, argument, addition), before


def _gate(call: Call, one: Call, other: Call) -> str | None:
    """The argument of the block that stands between what a module made and what the next one read."""
    assert one.out is not None
    for name, value in call.arguments().items():
        if value.shape == one.out.shape and same(one.out * value, other.x):
            return name
    return None


def additions_of(
    call: Call, before: Tensor, made: Sequence[Tensor | None], after: Tensor, part: str, numbers: Numbers
) -> tuple[Addition, ...]:
    """How what a part made joins the stream."""
    found = _joins(call, before, made, after, numbers)
    if found is None and any(is_norm(norm) and _joins(call, norm.out, made, after, numbers) for norm in call.children):
        raise OtherShapeError(f"{call.name} adds to its norm of the residual stream, and not to the stream itself")
    if found is None:
        raise OtherShapeError(f"what {part} of {call.name} makes is not what is added to the residual stream")
    return tuple(found)


def norm_after(calls: Sequence[Call], made: Tensor | None) -> Call | None:
    """The norm of what a part made."""
    return next((call for call in calls if is_norm(call) and same(call.x, made)), None)


def _made_by_mlps(mlps: Sequence[Call], reads: Tensor, is_chain: bool, where: str) -> Tensor:
    if is_chain:
        return added(mlps[-1], reads)
    if _read_the_same(mlps):
        return torch.stack([added(mlp, reads) for mlp in mlps]).sum(dim=0)
    names = ", ".join(mlp.name.rpartition(".")[2] for mlp in mlps)
    raise OtherShapeError(f"{where} has more parts than attention and an MLP ({names})")


def mlp_output_of(last: Call, made: Tensor) -> Projection | None:
    """The one linear map from neurons' activations to what the MLP makes; None for a mixture of experts."""
    for call in reversed([last, *last.walk()]):
        if isinstance(call.module, Projection) and same(call.out, made, is_rounded=adds_stream(last.module)):
            return call.module
    return None
