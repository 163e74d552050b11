"""Documents to token ids: many texts in one call of the tokenizer, long ones in chunks, no more text than is needed.

Chunks end where a tokenizer also splits, so that neither memory nor time grows with the longest document.
"""

import itertools
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from selfrepair.ingest.text.documents import Document, DocumentCounts
from selfrepair.warehouse.errors import SelfRepairError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHUNK_CHARACTERS = 2**18
"""The most characters in a chunk; shorter documents stay whole."""

BATCH_CHARACTERS = 2**18
BATCH_DOCUMENTS = 1000
"""About how much the tokenizer gets at once: enough to be fast, and little to throw away once there are enough prompts."""

CHARACTERS_A_TOKEN = 8
"""More than most texts have on average: for a document's first tokens, this much of it is read."""

LONGEST_S = 60.0
CHARACTERS_A_SECOND = 1000
"""How long a tokenizer may take; the slowest ones, written in Python, take a hundredth of that."""

_BORDERS = (
    # A space belongs to the word after it, in byte-level and SentencePiece vocabularies alike: no token reaches across.
    re.compile(r".+(?= \S)", re.DOTALL),
    # Without spaces, as in Chinese or in tables: lines, then any gap. Here one token of a cut may differ.
    re.compile(r".+\n(?=\S)", re.DOTALL),
    re.compile(r".+(?=\s\S)", re.DOTALL),
)


@dataclass(frozen=True)
class Tokens:
    """Token ids of a document or chunk, without special tokens; `ends` says whether the document ends here."""

    number: int
    ids: list[int]
    ends: bool


def encode(texts: list[str], tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
    """The token ids of each text, without special tokens, which a tokenizer may add though it is told not to.

    What a tokenizer's file says is anybody's: a regular expression in it can take years over a line of text, and the library
    is deaf to Ctrl-C meanwhile. So it runs in a thread that is left to itself after `LONGEST_S`, and a second more for every
    `CHARACTERS_A_SECOND`; that ends with the process. Raises SelfRepairError then, and where the tokenizer fails.
    """
    found: list[list[list[int]]] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            found.append(
                tokenizer(
                    ["", "a", *texts],
                    add_special_tokens=False,
                    return_attention_mask=False,
                    return_token_type_ids=False,
                    verbose=False,  # or it warns of texts that are longer than the model's context
                )["input_ids"]
            )
        except BaseException as error:
            errors.append(error)

    limit_s = LONGEST_S + sum(map(len, texts)) / CHARACTERS_A_SECOND
    thread = threading.Thread(target=run, name="tokenizer", daemon=True)
    thread.start()
    thread.join(limit_s)
    if found:
        empty, one, *ids = found[0]
        n_before = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(empty, one, strict=False)))
        n_after = len(empty) - n_before
        return [row[n_before : len(row) - n_after] for row in ids] if empty else ids
    text = next((text for text in texts if text), "")
    why = f"took more than {limit_s:.0f} s" if not errors else f"failed ({type(errors[0]).__name__}: {errors[0]})"
    raise SelfRepairError(
        f"the model's tokenizer {why} on {len(texts):,} texts, the first of which begins with {text[:40]!r}. Try another "
        "data set; if it is the same with all of them, the tokenizer's own file is damaged: take that of the model it was made "
        "for."
    ) from (errors[0] if errors else None)


def note_on_added_tokens(tokenizer: "PreTrainedTokenizerBase", begin: int) -> tuple[str, ...]:
    """What to tell of a tokenizer that adds tokens such as BOS to every text; `begin` is the one that begins every prompt."""
    (plain,) = encode(["a"], tokenizer)
    whole = tokenizer("a", verbose=False)["input_ids"]
    start = next((at for at in range(len(whole)) if whole[at : at + len(plain)] == plain), None)
    if start is None or len(whole) == len(plain):
        return ()
    places = (("before", whole[:start]), ("after", whole[start + len(plain) :]))
    added = " and ".join(f"{' '.join(token_texts(tokenizer, ids))} {where}" for where, ids in places if ids)
    (first,) = token_texts(tokenizer, [begin])
    return (
        f"The tokenizer adds {added} a text by itself. Here nothing is added twice: each prompt begins with {first} once.",
    )


class SpecialTokens:
    """Counts the documents whose text spells special tokens: tokenizers read `</s>` in ordinary text as the end of it.

    The token for unknown characters is no such token.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
        added = tokenizer.added_tokens_decoder.items()
        names = {token: str(one) for token, one in added if one.special}
        names |= dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
        if tokenizer.unk_token_id not in (begin, end):
            names.pop(tokenizer.unk_token_id, None)
        self._names = names
        self._begin = end if begin is None else begin
        self._counted: int | None = None

    def count(self, document: int, ids: Sequence[int], counts: DocumentCounts, *, is_start: bool = True) -> None:
        """Count the document of this number once, whose ids come in one or more calls, the first of which is its start."""
        if is_start and ids[:1] == [self._begin]:
            counts.begun += 1
        if self._names.keys().isdisjoint(ids):
            return
        counts.special_tokens.update(self._names[token] for token in self._names.keys() & set(ids))
        if document != self._counted:
            counts.with_special_tokens += 1
            self._counted = document

    def count_spelled(self, document: Document, counts: DocumentCounts) -> None:
        """Count a whole document by its text, where its tokens are not known alone."""
        ids = sorted((document.text.find(name), token) for token, name in self._names.items() if name in document.text)
        self.count(document.number, [token for _, token in ids], counts, is_start=bool(ids) and ids[0][0] == 0)


def in_chunks(
    document: Document, blocks: Iterable[str] | None = None, *, max_characters: int | None = None
) -> Iterator[Document]:
    """The document, or the one whose text is `blocks` joined, in consecutive chunks.

    Each has at most `max_characters`, by default `CHUNK_CHARACTERS`.
    """
    blocks = [document.text] if blocks is None else blocks
    texts: Iterator[str | None] = itertools.chain(_cut(blocks, max_characters or CHUNK_CHARACTERS), [None])
    for text, following in itertools.pairwise(texts):
        assert text is not None, "the last one alone is None"
        yield replace(document, text=text, more=document.more or following is not None)


def joined(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents whole again."""
    texts: list[str] = []
    for document in documents:
        texts.append(document.text)
        if not document.more:
            yield replace(document, text="".join(texts))
            texts.clear()


def tokenize(
    documents: Iterable[Document], tokenizer: "PreTrainedTokenizerBase", counts: DocumentCounts
) -> Iterator[Tokens]:
    """The documents' tokens in order. Documents without tokens are counted in `counts`."""
    chunks = (chunk for document in documents for chunk in in_chunks(document))
    adds_a_space, special = _adds_a_space(tokenizer), SpecialTokens(tokenizer)
    continues = has_tokens = False
    for batch in _batches(chunks):
        texts = []
        for chunk in batch:
            texts.append(chunk.text.removeprefix(" ") if continues and adds_a_space else chunk.text)
            continues = chunk.more
        for chunk, ids in zip(batch, encode(texts, tokenizer), strict=True):
            special.count(chunk.number, ids, counts, is_start=not has_tokens)
            has_tokens = has_tokens or bool(ids)
            if has_tokens:
                yield Tokens(chunk.number, ids, ends=not chunk.more)
            elif not chunk.more:
                counts.empty += 1
            has_tokens = has_tokens and chunk.more


def first_tokens(
    documents: Iterable[Document], tokenizer: "PreTrainedTokenizerBase", n_tokens: int, counts: DocumentCounts
) -> Iterator[Tokens]:
    """The first `n_tokens` of each document at most; of a long document, little more is tokenized."""
    special = SpecialTokens(tokenizer)
    for batch in _batches(joined(documents)):
        starts = [next(in_chunks(document, max_characters=CHARACTERS_A_TOKEN * n_tokens)) for document in batch]
        for document, start, ids in zip(
            batch, starts, encode([start.text for start in starts], tokenizer), strict=True
        ):
            found = ids
            if start.more and len(ids) < n_tokens:
                whole = tokenize([document], tokenizer, DocumentCounts())
                found = list(itertools.islice((token for chunk in whole for token in chunk.ids), n_tokens))
            if found:
                special.count(document.number, found[:n_tokens], counts)
                yield Tokens(document.number, found[:n_tokens], ends=True)
            else:
                counts.empty += 1


def token_texts(tokenizer: "PreTrainedTokenizerBase | None", tokens: Sequence[int]) -> list[str]:
    """Each token as readable text, its leading space kept; `<17>` without a tokenizer or a piece for the id."""
    return [f"<{token}>" if tokenizer is None else _token_text(tokenizer, token) for token in tokens]


def _token_text(tokenizer: "PreTrainedTokenizerBase", token: int) -> str:
    try:
        name = tokenizer.convert_ids_to_tokens(token)
    except IndexError:  # of SentencePiece, where the model's vocabulary is padded
        name = None
    if not isinstance(name, str):
        return f"<{token}>"
    # SentencePiece marks a space with a character that decoding one token alone drops.
    return name.replace("\u2581", " ") if name.startswith("\u2581") else str(tokenizer.decode([token]))


def _cut(blocks: Iterable[str], max_characters: int) -> Iterator[str]:
    """The chunks of a text; they do not depend on how it is divided into blocks."""
    rest = ""
    for block in blocks:
        rest += block
        start = 0
        while len(rest) - start > max_characters:
            end = _border(rest, start, start + max_characters)
            yield rest[start:end]
            start = end
        rest = rest[start:]
    yield rest


def _border(text: str, start: int, end: int) -> int:
    """Where to cut: the last good border of the window, its end where it has none."""
    found = (border.match(text, start, end + 1) for border in _BORDERS)
    return next((match.end() for match in found if match), end)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= BATCH_CHARACTERS or len(batch) == BATCH_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _adds_a_space(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether the tokenizer puts a space before every text, as SentencePiece does: a chunk's own would be one too many."""
    whole, word, spaced = encode(["a a", "a", " a"], tokenizer)
    return whole == word + word != word + spaced
