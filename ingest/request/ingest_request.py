"""The options of `selfrepair ingest`, as they were typed.

This module needs click alone, so that help works without torch and the hub's client.
"""

import shlex
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from pathlib import Path

import click

from selfrepair.ingest.request.mechanisms import NEURONS, Mechanisms
from selfrepair.ingest.request.options import option, typed_options

_NOT_OF_THE_RUN = ("devices", "ray", "ray_cpus", "shard", "name")

_BUNDLED = ("demo", "stdlib", "random")
"""Names that are never those of files."""


@dataclass(frozen=True, kw_only=True)
class IngestRequest:
    """What to measure: each field is an option and carries its help. None stands for an option that was left out."""

    model: str = option("Hub id, local folder in Hugging Face format, GGUF file, or `demo`.")
    dataset: str | None = option(
        "stdlib, random (tokens drawn by --seed), a .txt/.jsonl/.parquet file (text also as .gz or .zst), or a hub dataset, "
        "OWNER/NAME or OWNER/NAME:CONFIG  [default: stdlib]",
        None,
    )
    split: str | None = option("Split of the dataset  [default: train; heldout for stdlib]", None)
    dataset_revision: str | None = option("Revision of the dataset on the hub.", None)
    text_column: str = option("Column of the dataset that holds its text.", "text")
    row_group_gb: float = option(
        "The most that one group of rows of a .parquet file may take in memory, in GB; a file that needs more is refused.",
        2.0,
        type=click.FloatRange(min=0, min_open=True),
    )
    n_prompts: int = option("Number of prompts.", 200, flag="--prompts", type=click.IntRange(1))
    seq_len: int | None = option("Tokens in a prompt, BOS included  [default: 128]", None)
    packing: str | None = option(
        "Documents joined and split into prompts, or each truncated to one prompt  [default: packed]",
        None,
        type=click.Choice(["packed", "document"]),
    )
    protocol: str | None = option(
        "Prompts and partners as in the code released with the paper: fixes --seq-len 128, its packing, --ablation resample "
        "and, unless given, --dataset NeelNanda/pile-10k.",
        None,
        type=click.Choice(["rushing2024"]),
    )
    ablation: str | None = option("Ablation types, comma-separated  [default: resample,mean,zero]", None)
    layers: str | None = option("Only heads of these layers, such as 0,4-7.", None)
    heads: str | None = option("Only these heads, such as L9H6,L9H9 (in addition to --layers).", None)
    revision: str | None = option("Branch, tag or commit of the model on the hub.", None)
    checkpoint: str | None = option(
        "Training step (revision step<N>, as Pythia has them); 1000,143000 makes one run each. For a local folder, it only "
        "labels the run.",
        None,
    )
    series: str | None = option(
        "What the warehouse calls a local model  [default: its folder's name]. Checkpoints of one training share it, each with "
        "its --checkpoint.",
        None,
    )
    name: str | None = option(
        "What the warehouse calls the run, beside its number; selfrepair name gives another.", None
    )
    trust_remote_code: bool = option("Run custom code that comes with the model, if it needs any.", False)
    dtype: str = option(
        "What the layers compute in; the residual stream is kept in float32 or better. bfloat16-weights: float32, with the "
        "weights stored in bfloat16.",
        "float32",
        type=click.Choice(["float32", "tf32", "float64", "bfloat16", "bfloat16-weights", "float16"]),
    )
    device: str = option(
        "auto, cpu, cuda, cuda:1, mps; cuda:0+cuda:1 spreads the layers of a model that one does not hold.", "auto"
    )
    devices: str | None = option(
        "Several devices of this machine, each with a process of its own: all, or some such as cuda:0,cuda:3; cpu:2 is two "
        "processes on the CPU, cuda:0+cuda:1,cuda:2+cuda:3 two with two GPUs each.",
        None,
    )
    ray: str | None = option(
        "Workers on the nodes of a Ray cluster: host:port or ray://host:port; auto for the one that runs on this machine; "
        "without an address that one too, or one that is started for this command. The extra `ray` has it.",
        None,
        metavar="[ADDRESS]",
        alone="local",
    )
    ray_cpus: int | None = option(
        "With --ray: workers on the CPU, of so many cores each  [default: a worker for each GPU; without any, all cores of a "
        "node]",
        None,
        type=click.IntRange(1),
    )
    batch_size: str = option("Sequences in one forward; halved when memory runs out.", "auto")
    crosscheck: int | None = option(
        "Cells (one prompt, head and ablation each) measured again after the run, by whole forwards  [default: one in 32, but "
        "16 to 64]",
        None,
    )
    seed: int = option("Seed of the resample pairing and all randomness.", 0)
    given: str | None = option(
        "Heads such as L9H6,L9H9, ablated in both the clean and the ablated run, all with the same ablation.", None
    )
    neurons: str = option(
        "MLPs whose neurons are measured, at each head's top 2 % of rows by direct effect.",
        "last",
        type=click.Choice(list(NEURONS)),
    )
    edges: bool = option("Which heads and MLPs repair which head.", True)
    experts: bool = option(
        "Which experts later MLPs choose, and what each repairs; nothing in models without routed experts.", True
    )
    logit_lens: bool = option("Logit lens: the target's logit, log-probability and rank after each layer.", True)
    logprobs: bool = option("Also change in log-probability and KL divergence: two to six times the time.", False)
    self_repression: bool = option(
        "Whether heads of the later half of the layers repress or reinforce themselves.", False
    )
    mechanisms: bool = option(
        "Measure every mechanism: --logprobs and --self-repression in addition to those on by default.", False
    )
    shard: str | None = option(
        "i/n: measure the i-th of n shares of the run and leave it as part files. auto: which one, from Slurm's or torchrun's "
        "environment; auto/N: also from that of a Kubernetes indexed Job of N completions.",
        None,
    )

    def command(self, parts: Path | None = None) -> str:
        """The `selfrepair ingest` of this request, but for --db, --name and who measures it (--devices, --ray, --shard);
        `parts` where that folder is not the usual one.

        Local paths that hold for this folder alone begin with a dot.
        """
        named = replace(self, model=_marked(self.model), dataset=self.dataset and _marked(self.dataset))
        folder = [] if parts is None else ["--parts", _marked(str(parts))]
        return shlex.join(["selfrepair", "ingest", *typed_options(named, leave_out=_NOT_OF_THE_RUN), *folder])

    def left_out(self, names: Collection[str] = _NOT_OF_THE_RUN) -> list[str]:
        """The words that `command` leaves out, but for --db: who measures the run, and what it is called; or these of them."""
        return typed_options(self, leave_out=[one.name for one in fields(self) if one.name not in names])

    def who_measures(self) -> list[str]:
        """Of these words, those that have others measure: --devices, --ray and --ray-cpus."""
        return self.left_out(("devices", "ray", "ray_cpus"))

    def chosen_mechanisms(self) -> Mechanisms:
        """The mechanisms to measure, --mechanisms included."""
        return Mechanisms(
            edges=self.edges,
            neurons=self.neurons,
            experts=self.experts,
            logit_lens=self.logit_lens,
            logprobs=self.logprobs or self.mechanisms,
            self_repression=self.self_repression or self.mechanisms,
        )


def _marked(name: str) -> str:
    """The name of a model, a dataset or a folder; `./name` where a relative path is meant."""
    is_local = (
        name not in _BUNDLED and not name.startswith(".") and not Path(name).is_absolute() and Path(name).exists()
    )
    return f"./{name}" if is_local else name
