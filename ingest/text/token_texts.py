"""Tokens as readable text."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase


def token_texts(tokenizer: PreTrainedTokenizerBase | None, tokens: Sequence[int]) -> list[str]:
    """Each token as readable text, its leading space kept; `<17>` without a tokenizer."""
    if tokenizer is None:
        return [f"<{token}>" for token in tokens]
    pieces = tokenizer.convert_ids_to_tokens(list(tokens))
    return [
        # SentencePiece marks a space with a character that decoding one token alone drops.
        piece.replace("\u2581", " ")
        if isinstance(piece, str) and piece.startswith("\u2581")
        else str(tokenizer.decode([token]))
        for piece, token in zip(pieces, tokens, strict=True)
    ]
