"""What a block makes of the stream after attention, of whatever parts: read off the block's own forward."""

from typing import Any

import torch
from torch import Tensor, nn

from selfrepair.ingest.models.structure.trace import Call


class RestOfBlock(nn.Module):
    """The input of the norm `post_norm` of a block in whose forward attention makes zeros, by the stream that the block is
    given: what a block with one attention and this norm behind everything else adds to that stream, before the norm.

    All but the stream that the block is given is as it was in `call`: attention alone would read it.
    """

    def __init__(self, call: Call, attention: nn.Module, post_norm: nn.Module) -> None:
        super().__init__()
        self._parts = call.module, attention, post_norm  # a tuple: they are not this module's own
        self._arguments, self._keywords = call.given

    def forward(self, x: Tensor) -> Tensor:
        """Run the block up to the norm."""
        block, attention, post_norm = self._parts
        seen: list[Tensor] = []

        def zeros(stream: Tensor | None = None, *_: Any, hidden_states: Tensor | None = None, **__: Any) -> Any:
            given = hidden_states if stream is None else stream
            assert given is not None, "attention is given the stream"
            return torch.zeros_like(given), None

        def stop(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            seen.append(arguments[0])
            raise _Stopped

        handle = post_norm.register_forward_pre_hook(stop)
        vars(attention)["forward"] = zeros
        try:
            if self._arguments:
                block(x, *self._arguments[1:], **self._keywords)
            else:
                block(**{**self._keywords, "hidden_states": x})
        except _Stopped:
            pass
        finally:
            handle.remove()
            vars(attention).pop("forward")
        return seen[0]


class _Stopped(Exception):  # noqa: N818 - not an error: it ends a forward
    pass
