"""What a command line asks to be measured. Without torch: what is wrong whatever the model is told at once."""

from dataclasses import dataclass

from selfrepair.ingest.models.hub.revisions import check_has_checkpoints, parse_checkpoints
from selfrepair.ingest.request.protocols import Settings, settle
from selfrepair.ingest.request.selection import check_heads, parse_ablations, parse_batch_size, parse_given, parse_shard
from selfrepair.ingest.text.packing import PACKED
from selfrepair.ingest.text.refusals import check_length
from selfrepair.ingest.text.sources import RANDOM, STDLIB, TEXT, Source, open_source


@dataclass(frozen=True)
class Request:
    """What was typed, unread; `commands.ingest` says what each means."""

    model: str
    dataset: str | None
    split: str | None
    n_prompts: int
    seq_len: int | None
    ablation: str | None
    layers: str | None
    heads: str | None
    revision: str | None
    checkpoint: str | None
    dtype: str
    device: str
    batch_size: str
    seed: int
    shard: str | None
    given: str | None = None
    mechanisms: bool = False
    neurons: str = "last"
    edges: bool = True
    logit_lens: bool = True
    logprobs: bool = False
    self_repression: bool = False
    dataset_revision: str | None = None
    text_column: str = TEXT
    packing: str | None = None
    protocol: str | None = None
    trust_remote_code: bool = False

    def check(self) -> None:
        """Raise SelfRepairError for what no model could make right; whether the hub has it is not asked."""
        parse_shard(self.shard)
        parse_batch_size(self.batch_size)
        check_has_checkpoints(self.model, parse_checkpoints(self.checkpoint))
        settings = self.settled()
        check_heads(self.layers, self.heads, self.given)
        parse_given(self.given, parse_ablations(settings.ablation), None, None)
        self.source()
        if settings.dataset in (STDLIB, RANDOM):  # rows of others may be tokens, of whatever length
            check_length(settings.seq_len, None, settings.packing)

    def settled(self) -> Settings:
        """The settings of the prompts, what was left open filled up."""
        return settle(
            self.protocol,
            dataset=self.dataset,
            seq_len=self.seq_len,
            packing=self.packing,
            ablation=self.ablation,
            n_prompts=self.n_prompts,
        )

    def source(self) -> Source:
        """Its dataset, of which no row is read yet."""
        settings = self.settled()
        return open_source(
            settings.dataset,
            split=self.split,
            revision=self.dataset_revision,
            text_column=self.text_column,
            whole=settings.packing != PACKED,
        )
