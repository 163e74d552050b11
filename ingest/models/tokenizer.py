"""A model's tokenizer, and whether it fits that model."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from selfrepair.ingest import compat
from selfrepair.ingest.models.completeness import check_fetched
from selfrepair.ingest.models.formats.gguf_header import read_header
from selfrepair.ingest.models.hub.refusals import first_line
from selfrepair.ingest.models.weight_files import NotWholeError
from selfrepair.warehouse.errors import SelfRepairError, in_words

VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "tekken.json")
"""Files of which a tokenizer has at least one."""


@dataclass(frozen=True)
class Vocabulary:
    """What a model can read: token ids 0 to `d_vocab` - 1, at most `context` of them in a prompt, made by its `tokenizer`.

    `tokenizer` is None for a model without one, `context` for one without a limit.
    """

    tokenizer: PreTrainedTokenizerBase | None
    d_vocab: int
    context: int | None


def load_tokenizer(path: Path, *, trust_remote_code: bool) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a folder or a GGUF file; None without one, which suffices for datasets of token ids.

    Raises what transformers raises where there is one that cannot be read.
    """
    in_file = path.is_file()
    if in_file and "tokenizer.ggml.model" not in read_header(path).values:
        return None
    folder, options = (path.parent, {"gguf_file": path.name}) if in_file else (path, {})
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trust_remote_code, **options
        )
    except Exception as error:  # of many types, one for each way in which files can be missing
        if compat.wants_to_run_code(error):
            raise
        check_fetched(folder, () if in_file else VOCABULARIES)
        if in_file or any((folder / name).is_file() for name in VOCABULARIES):
            raise NotWholeError(f"its tokenizer cannot be read: {first_line(error)}") from error
        return None
    # transformers makes an empty tokenizer of some families where the files are missing.
    empty = len(tokenizer) <= len(tokenizer.all_special_tokens)
    return None if empty else tokenizer


def tokenizer_sha256(tokenizer: PreTrainedTokenizerBase | None) -> str | None:
    """SHA-256 of the tokens with their ids; None without a tokenizer."""
    if tokenizer is None:
        return None
    return hashlib.sha256(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()).hexdigest()


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, name: str, d_vocab: int) -> None:
    """Raise SelfRepairError for a tokenizer with ids that the model has no embedding for.

    Tokens added later, such as padding, may lie outside: texts do not hold them. BOS and end of text are in every prompt.
    """
    ends = {"BOS token": tokenizer.bos_token_id, "end-of-text token": tokenizer.eos_token_id}
    outside = next((f"its {end} is {token}" for end, token in ends.items() if (token or 0) >= d_vocab), None)
    if tokenizer.vocab_size > d_vocab:
        outside = f"it has {tokenizer.vocab_size:,} tokens"
    if outside is not None:
        raise SelfRepairError(
            f"model '{name}' comes with another model's tokenizer: {outside}, and the model knows ids 0 to {d_vocab - 1}. "
            + in_words(
                "Save its own next to it with tokenizer.save_pretrained, or leave tokenizer files out and give a dataset whose "
                "rows hold `tokens`.",
                "Pass its own as tokenizer=, or none and token ids.",
            )
        )
