"""How documents become rows of tokens: `packed` end to end, or one row a `document`."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from selfrepair.ingest.text.documents import Document, DocumentCounts
from selfrepair.ingest.text.tokenizing import first_tokens, tokenize
from selfrepair.warehouse.errors import SelfRepairError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PACKED, DOCUMENT, NONE = "packed", "document", "none"
"""Values of `datasets.packing`; `none` is for rows of token ids."""

Row: TypeAlias = tuple[tuple[int, ...], int]
"""Token ids, and the number of the document that the first of them after BOS is from."""


def begin_token(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The first token of every row: BOS, or the end-of-text token of a tokenizer without BOS, as in TransformerLens.

    Raises SelfRepairError for a tokenizer that has neither.
    """
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if begin is None:
        raise SelfRepairError(
            "the tokenizer has neither a BOS nor an end-of-text token. Give rows of `tokens` instead."
        )
    return int(begin)


def pack(
    documents: Iterable[Document], tokenizer: "PreTrainedTokenizerBase", seq_len: int, counts: DocumentCounts
) -> Iterator[Row]:
    """Rows of BOS and seq_len - 1 tokens of the documents, joined by the end-of-text token; the rest at the end is dropped."""
    begin, end = begin_token(tokenizer), tokenizer.eos_token_id
    tokens: list[int] = []
    numbers: list[int] = []
    for found in tokenize(documents, tokenizer, counts):
        ids = [*found.ids, end] if found.ends and end is not None else found.ids
        tokens.extend(ids)
        numbers.extend([found.number] * len(ids))
        cut = 0
        while len(tokens) - cut >= seq_len - 1:
            yield (begin, *tokens[cut : cut + seq_len - 1]), numbers[cut]
            cut += seq_len - 1
        del tokens[:cut], numbers[:cut]


def one_per_document(
    documents: Iterable[Document], tokenizer: "PreTrainedTokenizerBase", seq_len: int, counts: DocumentCounts
) -> Iterator[Row]:
    """Rows of BOS and a document's first tokens, seq_len in all; a shorter document gives a shorter row."""
    begin = begin_token(tokenizer)
    for found in first_tokens(documents, tokenizer, seq_len - 1, counts):
        yield (begin, *found.ids), found.number


def with_partners(rows: Iterable[Row], n_rows: int, counts: DocumentCounts) -> Iterator[Row]:
    """The first `n_rows` rows of which each has another one of its length; fewer where the documents end first.

    Rows of a length that occurs once are skipped. The last place goes to a length that is there already, since a new one
    would take two. Raises SelfRepairError for a single row, which has no partner.
    """
    if n_rows < 2:
        raise SelfRepairError(
            f"--prompts {n_rows} leaves no partner for resample ablation. Use 2 or more, or --ablation mean,zero."
        )
    of_length: dict[int, int] = {}
    read: list[Row] = []
    chosen = 0
    for row in rows:
        same = of_length.get(len(row[0]), 0)
        gain = (0, 2, 1)[min(same, 2)]
        if chosen + gain <= n_rows:
            of_length[len(row[0])] = same + 1
            chosen += gain
            read.append(row)
        else:
            counts.without_partner += 1
        if chosen == n_rows:
            break
    found = [row for row in read if of_length[len(row[0])] > 1]
    counts.without_partner += len(read) - len(found)
    yield from found
