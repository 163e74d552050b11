"""How good the demo model is: its held-out loss beside counting baselines, and how well it copies.

`python -m selfrepair.ingest.demo_model.evaluate FOLDER` prints the figures for a model folder.
"""

import json
import sys
from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from selfrepair.ingest.text import stdlib

ROW = 128
COPY = 63
BIGRAM_PRIOR = 10.0  # pseudo-counts with which the bigram falls back on the unigram


def evaluate(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """Mean losses in nats a token on the held-out files, rows of BOS + 127 tokens, and the gain of a second copy."""
    bos = tokenizer.bos_token_id
    train = _stream(tokenizer, "train")
    heldout = _stream(tokenizer, "heldout")
    rows = _rows(heldout, bos, ROW - 1)
    unigram, bigram = _baselines(train, rows, len(tokenizer))
    passages = _rows(heldout, bos, COPY)[::4]
    copies = _losses(model, torch.cat([passages, passages[:, 1:]], dim=1))
    first, second = copies[:, 1:COPY].mean(), copies[:, COPY + 1 :].mean()
    return {
        "heldout_loss": round(_losses(model, rows).mean().item(), 4),
        "unigram_loss": round(unigram, 4),
        "bigram_loss": round(bigram, 4),
        "copy_gain": round((first - second).item(), 4),
    }


def _stream(tokenizer: PreTrainedTokenizerFast, split: str) -> torch.Tensor:
    texts = [text for _, text in stdlib.documents(split)]
    return torch.tensor([t for ids in tokenizer(texts)["input_ids"] for t in (tokenizer.bos_token_id, *ids)])


def _rows(stream: torch.Tensor, bos: int, length: int) -> torch.Tensor:
    """Rows [row, 1 + length]: BOS, then consecutive parts of the stream."""
    n_rows = len(stream) // length
    rows = stream[: n_rows * length].view(n_rows, length)
    return torch.cat([torch.full((n_rows, 1), bos), rows], dim=1)


@torch.no_grad()
def _losses(model: GPT2LMHeadModel, rows: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats of every token after the first, [row, length - 1]."""
    losses = []
    for batch in rows.split(64):
        logits = model(batch[:, :-1]).logits
        losses.append(F.cross_entropy(logits.transpose(1, 2), batch[:, 1:], reduction="none"))
    return torch.cat(losses)


def _baselines(train: torch.Tensor, rows: torch.Tensor, vocabulary: int) -> tuple[float, float]:
    """Losses of the unigram (add-one) and of the bigram that falls back on it, on the same predictions."""
    counts = torch.bincount(train, minlength=vocabulary).double() + 1
    unigram = counts / counts.sum()
    pairs = torch.bincount(train[:-1] * vocabulary + train[1:], minlength=vocabulary**2).view(vocabulary, -1).double()
    bigram = (pairs + BIGRAM_PRIOR * unigram) / (pairs.sum(1, keepdim=True) + BIGRAM_PRIOR)
    before, after = rows[:, :-1], rows[:, 1:]
    return -unigram[after].log().mean().item(), -bigram[before, after].log().mean().item()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(
        json.dumps(
            evaluate(
                GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32),
                PreTrainedTokenizerFast.from_pretrained(folder),
            ),
            indent=2,
        )
    )
