"""A small trained Llama: `python -m benchmarks.trained_llama FOLDER`, for `benchmarks.reference_rows`.

Rotary embeddings, grouped queries, RMSNorm, gated MLPs and separate embeddings, trained for a few minutes on the standard
library with the bundled model's tokenizer: its heads do something, unlike those of random weights.
"""

import statistics
from pathlib import Path

import click
import torch
from torch.nn import functional as F
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from selfrepair.ingest.demo_model.train import learning_rate_factor, rows_of_epoch
from selfrepair.ingest.models.demo import DEMO_FOLDER
from selfrepair.ingest.text import stdlib

ROWS_AT_ONCE = 16
LEARNING_RATE = 4e-3
REPORT = 20


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--steps", default=400, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(folder: Path, steps: int, seed: int) -> None:
    """Train the model and write it, with its tokenizer, to FOLDER."""
    first, last = train(folder, steps, seed, [text for _, text in stdlib.documents("train")])
    click.echo(f"{folder}: loss {first:.2f} in the first {REPORT} steps, {last:.2f} in the last")


def train(folder: Path, steps: int, seed: int, texts: list[str]) -> tuple[float, float]:
    """Train on the texts; mean losses [nats per token] of the first and last `REPORT` steps."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(DEMO_FOLDER)
    bos = tokenizer.bos_token_id
    stream = torch.tensor([token for ids in tokenizer(texts)["input_ids"] for token in (bos, *ids)])
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            tie_word_embeddings=False,
            bos_token_id=bos,
            eos_token_id=bos,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.01)
    rows, losses = rows_of_epoch(stream, bos, generator), []
    for step in range(steps):
        chosen = rows[torch.randint(len(rows), (ROWS_AT_ONCE,), generator=generator)]
        loss = F.cross_entropy(model(input_ids=chosen[:, :-1]).logits.flatten(0, 1), chosen[:, 1:].flatten())
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * learning_rate_factor(step, steps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return statistics.mean(losses[:REPORT]), statistics.mean(losses[-REPORT:])


if __name__ == "__main__":
    main()
