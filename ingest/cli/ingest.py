"""`selfrepair ingest` and `selfrepair bench`. Their help works without torch: what needs it is imported when they run."""

import time
from pathlib import Path

import click

from selfrepair.warehouse.cli.options import db_option


@click.command(short_help="Measure a model and keep every row.")
@click.option("--model", required=True, help="Hub id, local folder in Hugging Face format, or `demo`.")
@click.option(
    "--dataset",
    help="stdlib, random (tokens drawn by --seed), a .txt/.jsonl/.parquet file, or a hub dataset, OWNER/NAME or "
    "OWNER/NAME:CONFIG  [default: stdlib]",
)
@click.option("--split", help="Split of the dataset  [default: train; heldout for stdlib]")
@click.option("--dataset-revision", help="Revision of the dataset on the hub.")
@click.option("--text-column", default="text", show_default=True, help="Column of the dataset that holds its text.")
@click.option(
    "--prompts", "n_prompts", type=click.IntRange(1), default=200, show_default=True, help="How many prompts."
)
@click.option("--seq-len", type=int, help="Tokens in a prompt, BOS included  [default: 128]")
@click.option(
    "--packing",
    type=click.Choice(["packed", "document"]),
    help="Documents joined and cut into prompts, or each cut to one prompt  [default: packed]",
)
@click.option(
    "--protocol",
    type=click.Choice(["rushing2024"]),
    help="Prompts and partners as in the code released with the paper: fixes --seq-len 128, its packing, --ablation "
    "resample and, unless given, --dataset NeelNanda/pile-10k.",
)
@click.option("--ablation", help="What stands in for the ablated head's output  [default: resample,mean,zero]")
@click.option("--layers", help="Only heads of these layers, such as 0,4-7.")
@click.option("--heads", help="Only these heads, such as L9H6,L9H9 (together with --layers: these too).")
@click.option("--revision", help="Branch, tag or commit of the model on the hub.")
@click.option("--checkpoint", help="Training step (revision step<N>, as Pythia has them); of 1000,143000 one run each.")
@click.option(
    "--trust-remote-code", is_flag=True, help="Run the code that comes with the model, where it needs its own."
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "tf32", "float64", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="What the layers compute in; the residual stream is kept in float32 or better.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--batch-size", default="auto", show_default=True, help="Sequences at once; halved when memory runs out.")
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Decides which prompt stands in for which, and what is random.",
)
@click.option(
    "--given", help="Heads such as L9H6,L9H9 that are ablated already, the same way, in all that is measured."
)
@click.option(
    "--neurons",
    type=click.Choice(["last", "all", "none"]),
    default="last",
    show_default=True,
    help="MLPs whose neurons are read where a head acts most (its top 2 % rows).",
)
@click.option(
    "--edges/--no-edges", default=True, show_default=True, help="Which later heads and MLPs repair which head."
)
@click.option(
    "--logit-lens/--no-logit-lens", default=True, show_default=True, help="What would be predicted after each layer."
)
@click.option(
    "--logprobs", is_flag=True, help="Change in log-probability and KL divergence, too: about twice the time."
)
@click.option(
    "--self-repression", is_flag=True, help="Whether heads of the later half repress or reinforce themselves."
)
@click.option(
    "--mechanisms", is_flag=True, help="All of these: --logprobs and --self-repression beside what is on already."
)
@click.option("--shard", help="i/n: measure the i-th of n shares of the run and leave it as part files.")
@click.option("--parts", type=click.Path(path_type=Path), help="Folder for part files  [default: <db>.parts]")
@click.option("--dry-run", is_flag=True, help="Say what it would take, and write nothing.")
@db_option
def ingest(
    model: str,
    dataset: str | None,
    split: str | None,
    dataset_revision: str | None,
    text_column: str,
    n_prompts: int,
    seq_len: int | None,
    packing: str | None,
    protocol: str | None,
    ablation: str | None,
    layers: str | None,
    heads: str | None,
    revision: str | None,
    checkpoint: str | None,
    trust_remote_code: bool,
    dtype: str,
    device: str,
    batch_size: str,
    seed: int,
    given: str | None,
    neurons: str,
    edges: bool,
    logit_lens: bool,
    logprobs: bool,
    self_repression: bool,
    mechanisms: bool,
    shard: str | None,
    parts: Path | None,
    dry_run: bool,
    db: Path,
) -> int | None:
    """Measure self-repair of a model on prompts: every token, every head, every ablation, into the warehouse.

    The same command again resumes where it stopped; finished units are never measured or stored twice. Part files lie
    beside the warehouse until they are loaded, so that it is open for writing only for the seconds of the load.

    \b
    selfrepair ingest --model EleutherAI/pythia-160m --dataset NeelNanda/pile-10k --prompts 1000 --device cuda
    selfrepair ingest --model ./my-model --dataset texts.jsonl --ablation mean --layers 8-11
    selfrepair ingest --model EleutherAI/pythia-160m --checkpoint 1000,10000,143000
    """  # noqa: D301
    began_at = time.perf_counter()  # before the import of torch, which is part of what a run takes
    from selfrepair.ingest.request.ingest_request import Request

    request = Request(
        model=model,
        dataset=dataset,
        split=split,
        n_prompts=n_prompts,
        seq_len=seq_len,
        ablation=ablation,
        layers=layers,
        heads=heads,
        revision=revision,
        checkpoint=checkpoint,
        trust_remote_code=trust_remote_code,
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        seed=seed,
        shard=shard,
        given=given,
        neurons=neurons,
        edges=edges,
        logit_lens=logit_lens,
        logprobs=logprobs,
        self_repression=self_repression,
        mechanisms=mechanisms,
        dataset_revision=dataset_revision,
        text_column=text_column,
        packing=packing,
        protocol=protocol,
    )
    request.check()
    from selfrepair.ingest.cli import session  # and torch, seconds later

    return session.ingest(request, db=db, parts=parts or Path(f"{db}.parts"), dry_run=dry_run, began_at=began_at)


@click.command(short_help="Time the engine against matmul and against hooks.")
@click.option(
    "--shape",
    type=click.Choice(["gpt2-small", "pythia-160m", "demo"]),
    default="gpt2-small",
    show_default=True,
    help="Model shape, with random weights.",
)
@click.option("--seq-len", type=click.IntRange(2), default=128, show_default=True, help="Tokens in a prompt.")
@click.option(
    "--prompts", "n_prompts", type=click.IntRange(2), default=8, show_default=True, help="Prompts to measure."
)
@click.option(
    "--heads-per-layer",
    type=click.IntRange(1),
    default=12,
    show_default=True,
    help="Heads ablated in each layer, at most.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "tf32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="What the layers compute in.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--batch-size", default="auto", show_default=True, help="Sequences at once.")
@click.option("--mechanisms", is_flag=True, help="Time the mechanisms against the effects alone instead.")
@click.option(
    "--repeats", type=click.IntRange(1), default=3, show_default=True, help="Interleaved rounds; medians are shown."
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here too."
)
def bench(
    shape: str,
    seq_len: int,
    n_prompts: int,
    heads_per_layer: int,
    dtype: str,
    device: str,
    batch_size: str,
    mechanisms: bool,
    repeats: int,
    json_file: Path | None,
) -> None:
    """Time the engine on a model shape: token-heads per second, share of this machine's matmul rate measured in the
    same run, peak memory, and the ratio to the per-head hook method timed in the same process.

    With --mechanisms: what edges, neurons, logit_lens, self_repression and log-probabilities add to the time, the bytes and the
    memory of an ingest with one ablation kind.
    """
    if mechanisms:
        from selfrepair.ingest.bench.mechanisms import run
    else:
        from selfrepair.ingest.bench.engine import run

    run(
        shape,
        seq_len=seq_len,
        n_prompts=n_prompts,
        heads_per_layer=heads_per_layer,
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        repeats=repeats,
        json_file=json_file,
    )
