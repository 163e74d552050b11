"""Datasets as a user would give them, and the prompts they make with the tiny tokenizer."""

import json
from pathlib import Path
from typing import Any

from selfrepair.ingest.request.ingest_request import Request
from selfrepair.ingest.text.prompts import PromptSet, build_prompts
from selfrepair.ingest.text.sources import Source, open_source
from support import tiny

TOKENIZER = tiny.tokenizer()
SETTINGS: dict[str, Any] = {
    "n_prompts": 2,
    "seq_len": 6,
    "d_vocab": len(TOKENIZER),
    "context": 32,
    "seed": 0,
    "resample": True,
}


def request(**options: Any) -> Request:
    """What the ingest command asks for of the bundled model, without options but `options`."""
    left_open = ("dataset", "split", "seq_len", "ablation", "layers", "heads", "revision", "checkpoint", "shard")
    usual = dict.fromkeys(left_open) | {"model": "demo", "n_prompts": 31, "seed": 0}
    return Request(**usual | {"dtype": "float32", "device": "cpu", "batch_size": "auto"} | options)


def prompts_of(dataset: Path | Source, **options: Any) -> PromptSet:
    """The prompts of a file or an opened dataset, by `SETTINGS` where `options` have nothing else."""
    source = dataset if isinstance(dataset, Source) else open_source(str(dataset))
    return build_prompts(source, TOKENIZER, **SETTINGS | options)


def jsonl(path: Path, *rows: Any) -> Path:
    """Write one row a line."""
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path
