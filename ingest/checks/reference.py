"""The effects once more, from whole forwards of the model itself with hooks: slow, plain, and independent of the engine.

Nothing is run layer by layer, no weight is folded into a direction, and no part is read where the engine reads it. Hooks on
the model's own modules replace one head's z, and keep the stream that enters each block, what attention adds to it, and the
final norm's input and output. What an MLP added is what a block's output has beyond its input and what attention added. A
head's output is its z through the output projection itself; norms are frozen at the scale that their own modules applied.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from selfrepair.ingest import compat
from selfrepair.ingest.checks.plain_hooks import Done, adds, after_call, before_call, entering, run_plain
from selfrepair.ingest.checks.reaches import reaches
from selfrepair.ingest.conventions import EFFECTS
from selfrepair.ingest.models.adapter import ModelAdapter
from selfrepair.ingest.models.placement.upcast import stored_weight
from selfrepair.ingest.models.structure.additions import Factor
from selfrepair.ingest.models.structure.roles import Nothing
from selfrepair.ingest.text.targets import PredictionTargets

Head: TypeAlias = tuple[int, int]
"""Layer and number of a head."""

NewValues: TypeAlias = Mapping[Head, Float[Tensor, "*pos d_head"]]
"""What replaces the z of heads."""

FAILURES = (RuntimeError, TypeError, AttributeError, ValueError, LookupError, AssertionError, MemoryError)
"""Errors of a forward of a model that hooks do not fit (NotImplementedError is a RuntimeError)."""

_PROBE_SIZE = 2.0**12
"""Size of the vector that shows a norm's gain: its eps is 1e-12 of that vector's mean square."""


def message_of(error: Exception) -> str:
    """The message of such an error, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def eager_attention(adapter: ModelAdapter) -> Iterator[None]:
    """Within it the model runs its family's own eager attention, where it can be switched: another kernel than the engine's."""
    model, before = adapter.model, compat.attention_kernel(adapter.model)
    switched = before != "eager" and compat.can_switch_attention(type(model))
    if switched:
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        if switched:
            model.set_attn_implementation(before)


@dataclass(frozen=True)
class Norm:
    """A norm as its own module computes it: gain * centred(x) / scale(x) + bias, of which gain and bias are its answers to
    a vector of known size and to zero. Once the scale is frozen, it is linear.
    """

    module: nn.Module
    gain: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    centres: bool

    @classmethod
    def of(cls, module: nn.Module, zero: Float[Tensor, " d_model"]) -> "Norm":
        """The norm that `module` is; `zero` has its width, type and device."""
        probe = torch.ones_like(zero)
        probe[1::2] = -1
        if len(zero) % 2:
            probe[-2] = -2  # its mean is zero, and none of its numbers
        bias = module(zero[None])[0]
        gain = (module(_PROBE_SIZE * probe[None])[0] - bias) / probe * probe.square().mean().sqrt()
        of_constant = module(torch.ones_like(zero)[None])[0] - bias
        return cls(module, gain, bias, centres=bool(of_constant @ gain < gain @ gain / 2))

    def frozen(self, x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
        """The norm's linear part times its scale."""
        return self.gain * (x - x.mean(dim=-1, keepdim=True) if self.centres else x)

    def scale(self, x: Float[Tensor, "*row d_model"], normed: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row"]:
        """The scale with which the module made `normed` of `x`; 1 where `x` is constant, so that any would do."""
        linear = self.frozen(x)
        size = (linear * (normed - self.bias)).sum(dim=-1)
        return torch.where(size > 0, linear.square().sum(dim=-1) / size, 1.0)


@dataclass
class Forward:
    """What hooks kept of one whole forward of several rows. Readings are dot products with the targets' rows of the
    unembedding after the final norm's linear part: logits times its scale.

    `attention` and `mlp` are what those of each layer added to the stream, `final` is the whole stream at the end, `scale` the
    final norm's. `logit` is the target's relative to the mean or to the foil's, but for a constant. `post_scale` is the
    scale of the norm after attention, of layers that have one.
    """

    z: list[Float[Tensor, "row input head d_head"]] = field(default_factory=list)
    attention: list[Float[Tensor, "row pos"]] = field(default_factory=list)
    mlp: list[Float[Tensor, "row pos"]] = field(default_factory=list)
    post_scale: dict[int, Float[Tensor, "row pos"]] = field(default_factory=dict)
    final: Float[Tensor, "row pos"] = field(init=False)
    scale: Float[Tensor, "row pos"] = field(init=False)
    logit: Float[Tensor, "row pos"] = field(init=False)


@dataclass(frozen=True)
class CleanPrompt:
    """One prompt's forward without the ablated head; heads that are `given` are replaced in it, and in the ablated ones."""

    targets: PredictionTargets
    given: NewValues
    directions: Float[Tensor, "pos d_model"]
    forward: Forward

    def head_values(self, head: Head) -> Float[Tensor, "input d_head"]:
        """Z of a head."""
        return self.forward.z[head[0]][0, :, head[1]]


class PlainForwards:
    """Measures effects of ablated heads through hooks on a model in float32 or better; `value_biases` are the constant parts
    of every head's z, [layer, head, d_head].
    """

    def __init__(self, adapter: ModelAdapter) -> None:
        self.adapter = adapter
        zero = torch.zeros(adapter.d_model, dtype=adapter.stream_dtype, device=adapter.device)
        self._home = adapter.device
        weight = stored_weight(adapter.unembedding)
        self._final = Norm.of(adapter.final_norm, zero)
        self._post_norms = [
            None if block.attention_post_norm is None else Norm.of(block.attention_post_norm, zero.to(block.device))
            for block in adapter.blocks
        ]
        self._mean_unembedding = weight.mean(dim=0, dtype=adapter.stream_dtype)
        self._reach = reaches(adapter)
        self.value_biases = self._constant_parts()

    def clean(self, targets: PredictionTargets, given: NewValues | None = None) -> CleanPrompt:
        """The forward that ablations of one prompt are compared with."""
        weight, dtype = stored_weight(self.adapter.unembedding), self.adapter.stream_dtype
        base = self._mean_unembedding if targets.foils is None else weight[targets.foils[0]].to(dtype)
        directions = weight[targets.ids[0]].to(dtype) - base
        forward = self._run(targets.inputs, [given or {}], directions, keep_values=True)
        return CleanPrompt(targets, given or {}, directions, forward)

    def measure(
        self, clean: CleanPrompt, ablated: Sequence[tuple[Head, Float[Tensor, "*input d_head"]]]
    ) -> Float[Tensor, "ablated pos effect"]:
        """All effects of each head with its new z [logits], in the order of `conventions.EFFECTS`: all in one forward."""
        rows = [{**clean.given, head: values} for head, values in ablated]
        forward = self._run(clean.targets.inputs.repeat(len(rows), 1), rows, clean.directions)
        attention, mlp = (
            torch.stack(after) - torch.stack(before)
            for after, before in ((forward.attention, clean.forward.attention), (forward.mlp, clean.forward.mlp))
        )
        scale, found = clean.forward.scale[0], []
        for row, (head, values) in enumerate(ablated):
            layer = head[0]
            direct = self._direct_effect(clean, head, clean.head_values(head))
            ablated_direct = self._direct_effect(clean, head, values)
            rescaled = attention[layer, row] / scale - (ablated_direct - direct)
            effects = {
                "direct_effect": direct,
                "ablated_direct_effect": ablated_direct,
                "logit_change": forward.logit[row] - clean.forward.logit[0],
                "repair_layernorm": forward.final[row] * (1 / forward.scale[row] - 1 / scale),
                "repair_attention": attention[layer + 1 :, row].sum(dim=0) / scale,
                "repair_mlp": mlp[layer:, row].sum(dim=0) / scale,
                "repair_post_norm": torch.zeros_like(rescaled) if self._post_norms[layer] is None else rescaled,
                "ln_scale_ratio": scale / forward.scale[row],
            }
            found.append(torch.stack([effects[name] for name in EFFECTS], dim=-1))
        return torch.stack(found)

    def _direct_effect(self, clean: CleanPrompt, head: Head, values: Tensor) -> Float[Tensor, " pos"]:
        """What the head adds with these z, all norms at their clean scales: through the output projection itself."""
        layer, number = head
        block, post_norm = self.adapter.blocks[layer], self._post_norms[layer]
        projection = block.output_projection
        assert projection is not None, "a head has one"
        z = torch.zeros_like(clean.forward.z[layer][0])
        own = slice(z.shape[-1])
        z[:, number] = values[..., own].to(z) - self.value_biases[head][own].to(z)
        z = z.flatten(1)[None]
        made, of_zeros = projection(z), projection(torch.zeros_like(z))
        if block.mixing is not None:
            made, of_zeros = block.mixing.module(made), block.mixing.module(of_zeros)
        output: Tensor = (made - of_zeros)[0, clean.targets.first_position :]
        if post_norm is not None:
            output = post_norm.frozen(output) / clean.forward.post_scale[layer][0, :, None]
        return self._read(output, clean.directions, self._reach.attention[layer]) / clean.forward.scale[0]

    def _read(self, vectors: Tensor, directions: Tensor, reach: Factor = 1.0) -> Float[Tensor, "*row pos"]:
        vectors = vectors.to(self._home)  # layers may be on other devices
        if isinstance(reach, Tensor):  # by dimension
            vectors, reach = vectors * reach, 1.0
        return (self._final.frozen(vectors) * directions).sum(dim=-1) * (reach * self.adapter.logit_scale)

    def _run(
        self,
        inputs: Int[Tensor, "row input"],
        rows: Sequence[NewValues],
        directions: Float[Tensor, "pos d_model"],
        *,
        keep_values: bool = False,
    ) -> Forward:
        """One whole forward of the model, up to its final norm; in each row, heads have other z."""
        adapter, kept, here = self.adapter, Forward(), slice(-len(directions), None)
        entered: list[Tensor] = []
        beside: dict[int, list[Tensor]] = {}

        def read_mlp(stream: Tensor) -> None:
            layer = len(kept.mlp)
            before, after = self._reach.stream[layer : layer + 2]
            if isinstance(before, float) and before == after == 1:
                added = self._read(stream[:, here].to(self._home) - entered[-1], directions)
            else:
                added = self._read(stream[:, here], directions, after) - self._read(entered[-1], directions, before)
            for reading in beside.pop(layer, ()):
                kept.attention[layer] += reading
            kept.mlp.append(added - kept.attention[layer])

        def on_block(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            stream = entering(arguments, keywords)
            if entered:
                read_mlp(stream)
            entered[:] = [stream[:, here].to(self._home, copy=True)]  # some blocks add to it in place
            if isinstance(adapter.blocks[len(kept.mlp)].attention, Nothing):
                kept.attention.append(torch.zeros_like(entered[0][..., 0]))
                if keep_values:
                    kept.z.append(stream.new_zeros(*inputs.shape, adapter.n_heads, adapter.d_head))

        def on_beside(layer: int, reach: Factor, _: tuple[Any, ...], out: Any) -> None:
            made = out[0] if isinstance(out, tuple) else out
            beside.setdefault(layer, []).append(self._read(made[:, here], directions, reach))

        def on_values(layer: int, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            z = arguments[0].clone(memory_format=torch.contiguous_format)
            by_head = z.view(*inputs.shape, adapter.blocks[layer].n_heads, -1)
            for row, replaced in enumerate(rows):
                for (_, head), values in ((at, new) for at, new in replaced.items() if at[0] == layer):
                    by_head[row, :, head] = values[..., : by_head.shape[-1]].to(z)
            if keep_values:
                kept.z.append(by_head.clone())
            return z, *arguments[1:]

        def on_attention(layer: int, reach: Factor, arguments: tuple[Any, ...], out: Any) -> None:
            made = out[0] if isinstance(out, tuple) else out
            added = made.reshape(*inputs.shape, -1)[:, here]
            if keep_values and adapter.blocks[layer].output_projection is None:
                kept.z.append(made.new_zeros(*inputs.shape, adapter.n_heads, adapter.d_head))
            kept.attention.append(self._read(added, directions, reach))
            post_norm = self._post_norms[layer]
            if post_norm is not None:
                kept.post_scale[layer] = post_norm.scale(arguments[0].reshape(*inputs.shape, -1)[:, here], added)

        def on_final(arguments: tuple[Any, ...], out: Tensor) -> None:
            if len(kept.attention) < adapter.n_layers:  # a norm without weights may be used before the layers, too
                return
            stream, normed = arguments[0][:, here], out[:, here]
            read_mlp(stream)
            kept.final = self._read(stream, directions)
            kept.scale = self._final.scale(stream, normed)
            kept.logit = (normed * directions).sum(dim=-1) * adapter.logit_scale
            raise Done

        with ExitStack() as hooks:
            for layer, block in enumerate(adapter.blocks):
                before_call(hooks, block.module, lambda _, *call: on_block(*call))
                if block.output_projection is not None:
                    before_call(
                        hooks, block.output_projection, lambda _, *call, at=layer: (on_values(at, call[0]), call[1])
                    )
                after_call(hooks, adds(block), partial(on_attention, layer, self._reach.attention[layer]))
                for one, reach in zip(block.beside, self._reach.beside[layer], strict=True):
                    after_call(hooks, one.module, partial(on_beside, layer, reach))
            after_call(hooks, adapter.final_norm, on_final)
            run_plain(adapter, inputs)
        return kept

    def _constant_parts(self) -> Float[Tensor, "layer head d_head"]:
        """Every head's z in a forward whose blocks are all given a stream of zeros: the value bias, with the first norm's.

        Zero where that depends on the position: with a sink, attention weights do not add up to one, and nothing is constant.
        """
        adapter = self.adapter
        kept = torch.zeros(
            *(adapter.n_layers, adapter.n_heads, adapter.d_head), dtype=adapter.stream_dtype, device=adapter.device
        )
        entered: list[nn.Module] = []

        def zeroed(block: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            entered.append(block)
            zeros = torch.zeros_like(entering(arguments, keywords))
            return ((zeros, *arguments[1:]), keywords) if arguments else ((), {**keywords, "hidden_states": zeros})

        def keep(layer: int, _: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            first, second = arguments[0].reshape(2, adapter.blocks[layer].n_heads, -1)
            if bool((first - second).abs().max() <= 1e-3 * first.abs().max()):
                kept[layer, : len(first), : first.shape[-1]] = first

        def done(*_: Any) -> None:
            if len(entered) == adapter.n_layers:  # some models use the norm within their blocks, too
                raise Done

        with ExitStack() as hooks:
            for layer, block in enumerate(adapter.blocks):
                before_call(hooks, block.module, zeroed)
                if block.output_projection is not None:
                    before_call(hooks, block.output_projection, partial(keep, layer))
            after_call(hooks, adapter.final_norm, done)
            run_plain(adapter, torch.zeros(1, 2, dtype=torch.long, device=adapter.device))
        return kept
