"""A GPT-2 set by hand: its tokens are words of four classes that follow each other in a circle, and who does what in it is
known. Planted are a head, its hidden backup, a neuron that erases what the head writes, and a head that represses itself.
"""

import itertools
import json
import math
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from support import families, tiny

LAYERS, HEADS, WIDTH, CLASSES = 4, 4, 32, 4
MAIN, BACKUP, REPRESSING = (0, 1), (1, 2), (2, 0)
"""Layer and number. All other heads of the earlier half write nothing, all others of the later half look back."""

ERASER, BOOSTER, STEADY = 41, 7, 90
"""Neurons of the last MLP: fires with the main head and writes against every word; the same, but for every word, and less;
writes against every word whatever the heads do.
"""

WORDS = range(20, 52)
PROMPTS, LENGTH = 24, 17

_NAMES = ["ballast", "begin", "word", "main is here", "repressing is here"]
_NAMES += [f"{kind} {number}" for kind in ("is", "next") for number in range(CLASSES)]
_GATE = _FLAG = CLASSES  # a head's first dimensions are the classes


@dataclass(frozen=True)
class Plants:
    """What each plant hangs on: with 0 it is not there, and all else stays as it is."""

    backup_yields: float = 13.0
    """How strongly the backup's attention goes to BOS where the main head's flag is."""
    eraser_listens: float = 5.0
    """How strongly the eraser reads that flag."""
    repressing_yields: float = 13.0
    """How strongly the repressing head's attention goes to BOS where its own flag is."""


def save(folder: Path, plants: Plants = Plants()) -> Path:
    """The model with a tokenizer, in Hugging Face format."""
    build(plants).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def write_prompts(path: Path) -> Path:
    """A .jsonl of rows of tokens: BOS, then words whose classes go round the circle."""
    draw = random.Random(5)
    lines = []
    for _ in range(PROMPTS):
        first = draw.randrange(CLASSES)
        words = [draw.choice(WORDS[(first + n) % CLASSES :: CLASSES]) for n in range(LENGTH - 1)]
        lines.append(json.dumps({"tokens": [0, *words]}))
    path.write_text("\n".join(lines) + "\n")
    return path


def build(plants: Plants) -> GPT2LMHeadModel:
    """Embeddings and unembedding have a little noise; every weight that is not set by hand is 0."""
    config = GPT2Config(
        vocab_size=families.VOCABULARY,
        n_layer=LAYERS,
        n_embd=WIDTH,
        n_head=HEADS,
        n_positions=LENGTH,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
        tie_word_embeddings=False,
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(float("ln_" in name and name.endswith("weight")))
        _set_embeddings(model)
        blocks = model.transformer.h
        _set_head(blocks, MAIN, writes=2.0, flag="main is here")
        _set_head(blocks, BACKUP, writes=1.5, yields_to="main is here", yields=plants.backup_yields)
        _set_head(
            blocks,
            REPRESSING,
            writes=0.8,
            flag="repressing is here",
            yields_to="repressing is here",
            yields=plants.repressing_yields,
        )
        for layer, number in itertools.product((2, 3), range(HEADS)):
            if (layer, number) != REPRESSING:
                _set_head(blocks, (layer, number), writes=0.2, back=1 + number % (CLASSES - 1))
        _set_neuron(blocks, ERASER, reads="main is here", by=plants.eraser_listens, writes=-0.3)
        _set_neuron(blocks, BOOSTER, reads="main is here", by=5.0, writes=0.05)
        _set_neuron(blocks, STEADY, reads="word", by=6.0, writes=-0.3)
    return model


def _direction(name: str) -> Tensor:
    """Orthogonal to all others and to what LayerNorm takes away: the cosines of a discrete cosine transform."""
    number = 1 + _NAMES.index(name)
    return torch.cos(math.pi * number * (torch.arange(WIDTH) + 0.5) / WIDTH) * math.sqrt(2 / WIDTH)


def _class_of(word: int) -> int:
    return (word - WORDS[0]) % CLASSES


def _set_embeddings(model: GPT2LMHeadModel) -> None:
    """A large constant keeps LayerNorm's scale nearly the same. Words of a class differ in how loud they are predicted."""
    generator = torch.Generator().manual_seed(1)
    tokens, positions, unembedding = model.transformer.wte.weight, model.transformer.wpe.weight, model.lm_head.weight
    for weight in (tokens, positions, unembedding):
        weight.copy_(0.02 * torch.randn(weight.shape, generator=generator))
    positions += 8 * _direction("ballast")
    tokens[0] += _direction("begin")
    for word in WORDS:
        tokens[word] += _direction("word") + _direction(f"is {_class_of(word)}")
        loudness = 1 + float(torch.rand(1, generator=generator))
        unembedding[word] += loudness * _direction(f"next {_class_of(word)}")


def _set_head(
    blocks: torch.nn.ModuleList,
    at: tuple[int, int],
    *,
    writes: float,
    back: int = 0,
    flag: str | None = None,
    yields_to: str | None = None,
    yields: float = 0.0,
) -> None:
    """A head that looks at the words of its own class (of the class `back` before), and writes the class that comes next.

    Beside that it writes its `flag`. It looks at BOS, of which it writes nothing, where there is no such word and, as
    strongly as `yields`, where the stream holds `yields_to`.
    """
    layer, number = at
    size = WIDTH // HEADS
    attention = blocks[layer].attn
    query, key, value = attention.c_attn.weight.view(WIDTH, 3, HEADS, size)[:, :, number].unbind(1)
    output = attention.c_proj.weight.view(HEADS, size, WIDTH)[number]
    for seen in range(CLASSES):
        query[:, seen] = 11 * _direction(f"is {seen}")
        key[:, (seen + back) % CLASSES] = 11 * _direction(f"is {seen}")
        value[:, seen] = 1.5 * _direction(f"is {seen}")
        output[seen] = writes * _direction(f"next {(seen + back + 1) % CLASSES}")
    attention.c_attn.bias.view(3, HEADS, size)[0, number, _GATE] = 3
    key[:, _GATE] = 11 * _direction("begin")
    if yields_to is not None:
        query[:, _GATE] = yields * _direction(yields_to)
    if flag is not None:
        value[:, _FLAG] = 1.5 * _direction("word")
        output[_FLAG] = 1.5 * _direction(flag)


def _set_neuron(blocks: torch.nn.ModuleList, number: int, *, reads: str, by: float, writes: float) -> None:
    """A neuron of the last MLP that writes the same for or against every word."""
    mlp = blocks[-1].mlp
    mlp.c_fc.weight[:, number] = by * _direction(reads)
    mlp.c_fc.bias[number] = -2.5
    mlp.c_proj.weight[number] = writes * torch.stack([_direction(f"next {n}") for n in range(CLASSES)]).sum(0)
