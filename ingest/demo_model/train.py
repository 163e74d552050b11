"""Train the bundled demo model from the standard library's text: `python -m selfrepair.ingest.demo_model.train --help`.

A GPT-2 of 6 layers and 8 heads. The same seed, interpreter, library versions and number of threads give the same weights.
"""

import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import click
import tokenizers
import torch
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from selfrepair.ingest.demo_model import evaluate
from selfrepair.ingest.text import stdlib

VOCABULARY = 2048
CONTEXT = 128
STEP_ROWS = 64
MICROBATCH_ROWS = 16  # small enough to stay in the CPU caches
END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of VOCABULARY tokens; END_OF_TEXT starts every row and separates documents."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, unk_token=END_OF_TEXT
    )


def build_model(bos: int) -> GPT2LMHeadModel:
    """The untrained model, its token embeddings tied to its unembedding."""
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=192,
        n_layer=6,
        n_head=8,
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=bos,
        eos_token_id=bos,
    )
    model = GPT2LMHeadModel(config)
    model.set_attn_implementation("eager")  # at this length faster backwards than the fused kernel
    return model


def rows_of_epoch(stream: torch.Tensor, bos: int, generator: torch.Generator) -> torch.Tensor:
    """The stream cut into shuffled rows [row, CONTEXT + 1] that start with BOS, from a random offset each epoch."""
    offset = int(torch.randint(CONTEXT, (1,), generator=generator))
    n_rows = (len(stream) - offset) // CONTEXT
    rows = stream[offset : offset + n_rows * CONTEXT].view(n_rows, CONTEXT)
    rows = rows[torch.randperm(n_rows, generator=generator)]
    return torch.cat([torch.full((n_rows, 1), bos, dtype=rows.dtype), rows], dim=1)


def learning_rate_factor(step: int, n_steps: int) -> float:
    """Linear warm-up over 2 %, constant, then a linear descent to 0 over the last 55 %."""
    return min(1.0, (step + 1) / (0.02 * n_steps), (n_steps - step) / (0.55 * n_steps))


def optimizers(model: GPT2LMHeadModel) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, gains and biases."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".h." in name]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and ".h." in name)]
    return [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1, momentum=0.95),
        torch.optim.AdamW(others, lr=0.004, betas=(0.9, 0.95), weight_decay=0.01),
    ]


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write.")
@click.option("--million-tokens", default=30.0, show_default=True, help="Tokens to train on, repeats included.")
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(out: Path, million_tokens: float, seed: int, threads: int) -> None:
    """Train the model and write it, with its tokenizer and a training record, to --out."""
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(seed)
    texts = [text for _, text in stdlib.documents("train")]
    tokenizer = train_tokenizer(texts)
    bos = tokenizer.bos_token_id
    encoded = [[bos, *ids] for ids in tokenizer(texts)["input_ids"]]
    stream = torch.tensor([token for ids in encoded for token in ids])
    model = build_model(bos)
    n_steps = math.ceil(million_tokens * 1e6 / (STEP_ROWS * CONTEXT))
    opts = optimizers(model)
    base_rates = [[group["lr"] for group in opt.param_groups] for opt in opts]
    click.echo(f"{len(texts)} documents, {len(stream)} tokens, {n_steps} steps")

    rows = rows_of_epoch(stream, bos, generator)
    position, started, running = 0, time.perf_counter(), 0.0
    for step in range(n_steps):
        if position + STEP_ROWS > len(rows):
            rows, position = rows_of_epoch(stream, bos, generator), 0
        batch = rows[position : position + STEP_ROWS]
        position += STEP_ROWS
        for microbatch in batch.split(MICROBATCH_ROWS):
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(microbatch[:, :-1]).logits
            loss = F.cross_entropy(logits.float().flatten(0, 1), microbatch[:, 1:].flatten()) * (
                len(microbatch) / STEP_ROWS
            )
            loss.backward()
            running += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt, rates in zip(opts, base_rates, strict=True):
            for group, rate in zip(opt.param_groups, rates, strict=True):
                group["lr"] = rate * learning_rate_factor(step, n_steps)
            opt.step()
            opt.zero_grad()
        if (step + 1) % 100 == 0:
            seconds = time.perf_counter() - started
            click.echo(f"step {step + 1}/{n_steps}  loss {running / 100:.3f}  {seconds:.0f} s")
            running = 0.0
        if (step + 1) % 500 == 0:
            click.echo(json.dumps(evaluate.evaluate(model, tokenizer)))
    save(model, tokenizer, out, {"seed": seed, "million_tokens": million_tokens})


def save(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, out: Path, settings: dict[str, Any]) -> None:
    """Write the half-precision weights, the tokenizer and `training.json` with the evaluation of what was written."""
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    reloaded = GPT2LMHeadModel.from_pretrained(out, dtype=torch.float32)
    record = {
        **settings,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "tokenizers": tokenizers.__version__,
        **evaluate.evaluate(reloaded, tokenizer),
    }
    (out / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    click.echo(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
