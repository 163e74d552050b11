"""Datasets as a user would give them, and the prompts they make with the tiny tokenizer."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from selfrepair.ingest.models.tokenizer import Vocabulary
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.text.prompts import PromptOptions, PromptSet, build_prompts
from selfrepair.ingest.text.sources import Source, open_source
from support import tiny

TOKENIZER = tiny.tokenizer()
VOCABULARY = Vocabulary(TOKENIZER, d_vocab=len(TOKENIZER), context=32)
OPTIONS = PromptOptions(n_prompts=2, seq_len=6)


def request(**options: Any) -> IngestRequest:
    """An ingest of 31 prompts with the bundled model on the CPU, and `options`."""
    return IngestRequest(**{"model": "demo", "n_prompts": 31, "device": "cpu"} | options)


def prompts_of(dataset: Path | Source, **options: Any) -> PromptSet:
    """The prompts of a file or an opened dataset, by `OPTIONS` unless `options` say otherwise."""
    source = dataset if isinstance(dataset, Source) else open_source(str(dataset))
    return build_prompts(source, VOCABULARY, replace(OPTIONS, **options))


def jsonl(path: Path, *rows: Any) -> Path:
    """Write one row a line."""
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path
