"""Small whole models on disk, as a user would give them: weights, configuration and a tokenizer."""

from pathlib import Path

import tokenizers
from transformers import PreTrainedTokenizerFast

from support import families

TEXTS = [
    "def add(first, second):\n    return first + second\n",
    "A list holds values; a tuple holds values that stay.\n",
    "for name in names:\n    print(name, names[name])\n",
]


def tokenizer(size: int = families.VOCABULARY) -> PreTrainedTokenizerFast:
    """A BPE of `size` tokens (letters and a few merges) whose token 0 begins and ends texts."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    bpe.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<|end|>", "<pad>", "<unk>"], show_progress=False
    )
    bpe.train_from_iterator(TEXTS * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<|end|>", eos_token="<|end|>", pad_token="<pad>", unk_token="<unk>"
    )


def save(folder: Path, family: str = "gpt2") -> Path:
    """A random float32 model of `family` with a tokenizer, in Hugging Face format."""
    import torch

    families.build(family, torch.float32).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def write_texts(path: Path, documents: int = 12) -> Path:
    """A .jsonl of short documents that differ from each other."""
    import json

    lines = [json.dumps({"text": TEXTS[n % 3] * (1 + n % 4) + f"# {n}\n"}) for n in range(documents)]
    path.write_text("\n".join(lines) + "\n")
    return path


def save_shaped(folder: Path, n_layers: int, n_heads: int) -> Path:
    """A random float32 GPT-2 of this shape, two dimensions a head, with a tokenizer, for prompts of up to 128 tokens."""
    import torch
    from transformers import AutoModelForCausalLM, GPT2Config

    torch.manual_seed(n_layers)
    config = GPT2Config(
        vocab_size=families.VOCABULARY,
        n_layer=n_layers,
        n_head=n_heads,
        n_embd=2 * n_heads,
        n_positions=128,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
