"""The parts of one block by role, told apart by the tensors that pass between them."""

from collections.abc import Sequence

from torch import Tensor

from selfrepair.ingest.models.structure.additions import Addition
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
from selfrepair.ingest.models.structure.mixing import Mixing, mixing_of
from selfrepair.ingest.models.structure.mlps import (
    additions_of,
    branch_of,
    mlp_among,
    mlp_output_of,
    norm_after,
    rest_of_block,
)
from selfrepair.ingest.models.structure.numbers import Numbers
from selfrepair.ingest.models.structure.roles import Beside, BlockParts, Nothing, OtherShapeError, Projection
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
    _refuse_if_not_added(call, parts, attention)
    place = parts.index(attention)
    ln1, attention_factor = _norm_before(parts[:place], attention, stream, numbers, where)
    has_heads = has_softmax_heads(attention)
    projection = _output_projection(attention, stream, where) if has_heads else None
    mixed, mixing = _mixed(parts[place:], attention)
    attention_post = None if adds_stream(attention.module) else norm_after(parts[place:], attention.out)
    rest = [child for child in parts if child not in (ln1, attention, attention_post, mixed)]
    norms, mlps = [child for child in rest if is_norm(child)], [child for child in rest if not is_norm(child)]
    beside = _beside_attention(mlps, ln1)
    made_by_attention = mixed or attention_post or attention
    reads_attention = made_by_attention.out
    joins = [child for child in mlps if same(child.x, reads_attention) or _makes_the_block(child, mlps, call)]
    mlps = [child for child in mlps if child not in (*beside, *joins)]
    if not mlps:
        raise OtherShapeError(f"{where} has no MLP")
    of_attention = added(attention, stream) if made_by_attention is attention else made_by_attention.out
    made = [of_attention, *(one.out for one in beside)]
    try:
        mlp = mlp_among(call, mlps, norms, ln1, numbers)
    except OtherShapeError:
        found = rest_of_block(call, parts[place + 1 :], attention, made, numbers)
        if found is None:
            raise
        mlp = found
    branch, after_mlp = branch_of(call, mlp.tail, norms, numbers)
    is_parallel = same(mlp.reads, stream)
    if is_parallel and branch is not None:
        raise OtherShapeError(f"{where} has more parts than attention and an MLP side by side")
    if is_parallel:
        attention_addition = mlp_addition = _added_together(call, made, mlp.adds, numbers)
        of_beside: tuple[Addition, ...] = ()
    else:
        attention_addition, *others_beside = additions_of(call, stream, made, mlp.reads, "attention", numbers)
        of_beside = tuple(others_beside)
        (mlp_addition,) = additions_of(call, mlp.reads, [mlp.adds], after_mlp, "the MLP", numbers)
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
        hands_on=hands_on and any(_hands_on(part, call) for part in parts if part.module in mlp.modules),
        mixing=mixing,
    )


def _refuse_if_not_added(call: Call, parts: Sequence[Call], attention: Call) -> None:
    """Raise OtherShapeError where another part makes the whole stream, and reads what attention made besides."""
    for part in parts:
        if part is not attention and same(part.x, call.x) and same(part.out, call.out):
            raise OtherShapeError(
                f"what attention of {call.name} makes is read by {part.name.rpartition('.')[2]} alone, and not added to the "
                "residual stream"
            )


def _mixed(parts: Sequence[Call], attention: Call) -> tuple[Call | None, Mixing | None]:
    """The convolution of what attention makes, where there is one."""
    for part in parts:
        if part is not attention and not is_norm(part) and attention.out is not None and same(part.x, attention.out):
            mixing = mixing_of(part.module, attention.out)
            if mixing is not None:
                return part, mixing
    return None, None


def _hands_on(part: Call, call: Call) -> bool:
    """Whether what a part makes besides is what the block makes besides."""
    if not isinstance(part.returned, tuple) or not isinstance(call.returned, tuple):
        return False
    return any(one is other for one in part.returned[1:] for other in call.returned[1:] if isinstance(one, Tensor))


def _makes_the_block(part: Call, others: Sequence[Call], call: Call) -> bool:
    """Whether a part joins what another made with the stream, so that its output is the block's."""
    return same(part.out, call.out) and any(other is not part and same(part.x, other.out) for other in others)


def _beside_attention(others: Sequence[Call], ln1: Call | None) -> list[Call]:
    """Of a block's other parts, those that mix positions and read what attention reads."""
    if ln1 is None or len(others) < 2:
        return []
    return [one for one in others if same(one.x, ln1.out) and not is_positionwise(one)]


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
    (norm, factor), post = _norm_before(parts, part, stream, numbers, call.name), norm_after(parts, part.out)
    if is_mlp and factor != 1:
        raise OtherShapeError(f"the MLP of {call.name} reads a multiple of its norm")
    made, after = (part if post is None else post).out, call.out
    assert made is not None
    assert after is not None
    (addition,) = additions_of(call, stream, [made], after, part.name.rpartition(".")[2], numbers)
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
        mlp_output=mlp_output_of(part, part.out) if is_mlp and part.out is not None else None,
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


def _output_projection(attention: Call, stream: Tensor, where: str) -> Projection:
    """The linear map from all heads' z to what attention makes."""
    made = added(attention, stream)
    for call in reversed(list(attention.walk())):
        if isinstance(call.module, Projection) and same(call.out, made, is_rounded=adds_stream(attention.module)):
            if not call.module.weight.is_floating_point():
                raise OtherShapeError(f"the weights of {call.name} are quantised")
            return call.module
    raise OtherShapeError(f"attention of {where} has no output projection to split by head")
