"""What is typed with selfrepair 0.1.0 to make the fixture, over which texts, and what its README says of that."""

from typing import Any

VERSION = "0.1.0"
NAME = "version_0_1_0"
WAREHOUSE = "warehouse.duckdb"
PARTS = f"{WAREHOUSE}.parts"
SENTENCES = (
    "The ferry left the harbour at seven, and the ferry came back at nine. Nobody on the quay had seen the storm, but "
    "the captain had read it in the clouds, and turned the ferry round in time.",
    "A gardener who waters at noon waters the air, and a gardener who waters at dusk waters the roots. The old gardener "
    "knew both, and watered when there was time.",
    "If the list of names is empty, the clerk returns the list. If the list of names is not empty, the clerk reads the "
    "first name, and then the next name, until the list of names is empty.",
)
"""The documents of sentences.jsonl."""

TOKEN_ROWS = (
    (8, "The first reader of the file closed the file."),
    (8, "The second reader of the file left it open."),
    (11, "When the key is not in the table, the table is searched again from the start."),
    (11, "When the key is in the table, the value of the key is returned and nothing is searched."),
    (14, "Each line of the letter was longer than the line before it, and the last line was the name."),
    (14, "Each word of the line was shorter than the word before it, and the last word was a number."),
    (17, "A path that ends where it begins is a circle, and a circle that ends where it begins is the same path."),
    (17, "A name that means what it says is a good name, and a name that says what it means is the same name."),
)
"""Rows of token_rows.jsonl: so many tokens of each text. A run's unit holds prompts of one length: these make four."""

ANSWERS = (
    ("The value of the first argument must be read before the value of the", " second", " first"),
    ("The file that was closed is closed, and the file that was open is", " open", " not"),
    ("The name of the list is not the list, and the name of the string is not the", " string", " list"),
    ("If it is not true that the number is even, then the number is", " not", " a"),
)
"""Texts of answers.jsonl, each with the answer that is asked for and the foil it is compared with."""

COMMANDS = {
    "whole": (
        "selfrepair ingest --model demo --dataset sentences.jsonl --prompts 6 --seq-len 18 "
        "--heads L3H1,L4H6,L5H2,L5H7 --mechanisms --device cpu --db warehouse.duckdb"
    ),
    "given": (
        "selfrepair ingest --model demo --dataset sentences.jsonl --prompts 6 --seq-len 18 --ablation resample "
        "--given L4H6 --heads L5H2,L5H7 --device cpu --db warehouse.duckdb"
    ),
    "unfinished": (
        "selfrepair ingest --model demo --dataset token_rows.jsonl --prompts 8 --heads L3H4,L4H6,L5H2 "
        "--mechanisms --neurons all --device cpu --db warehouse.duckdb"
    ),
    "waiting": (
        "selfrepair ingest --model demo --dataset answers.jsonl --prompts 4 --ablation mean,zero "
        "--heads L3H1,L4H6,L5H2 --mechanisms --device cpu --db warehouse.duckdb"
    ),
}
"""What measures each of the four runs whole. Typed again in the folder of the archive, it resumes the run."""

LOAD = "selfrepair load --db warehouse.duckdb"
RECIPE = (
    f"{COMMANDS['whole']} --shard 1/1",
    f"{COMMANDS['given']} --shard 1/1",
    f"{COMMANDS['unfinished']} --shard 1/4",
    LOAD,
    f"{COMMANDS['unfinished']} --shard 2/4",
    f"{COMMANDS['waiting']} --shard 1/1",
)
"""What was typed, in this order, to make the warehouse and the part files.

All is loaded at once: each further load would leave blocks of the file unused, and the archive is a third smaller without.
"""


def readme(expected: dict[str, Any]) -> str:
    """What the archive says about itself."""
    of = {name: f"run {entry['run_id']} ({entry['run_key']})" for name, entry in expected["runs"].items()}
    recipe = "\n".join(f"    {command}" for command in RECIPE)
    commands = "\n".join(f"    {command}" for command in COMMANDS.values())
    return f"""\
A warehouse and part files as selfrepair {VERSION} leaves them. make_fixture.py made them; do not edit them by hand.

What was typed, in this folder, with relative paths:

{recipe}

What is here:

    whole       {of["whole"]}, next tokens of packed text, three ablations, all mechanisms; complete
    given       {of["given"]}, L4H6 ablated beforehand, resample alone, the default mechanisms; complete
    unfinished  {of["unfinished"]}, rows of tokens of four lengths, hence four units; all mechanisms, neurons of every
                MLP. Unit 0 is loaded, unit 1 lies in {PARTS}, units 2 and 3 are not measured
    waiting     {of["waiting"]}, answers above foils, mean and zero ablation, all mechanisms; measured whole, but only
                in {PARTS}: the warehouse has never heard of it. Its number is the one it gets when loaded

    {LOAD}

loads the four units that wait. Each of the following measures what is missing of its run (units 2 and 3 of
the unfinished one, else nothing), and loads what is not loaded:

{commands}

A run's key depends on the model's name (`demo`) and the SHA-256 of its weights, on the file name of the data set without
its folder, on the tokens, and on the options that decide numbers, but not on --db, --device, --shard or the folder it is
typed in. Another set of bundled weights is another run, which is measured from the start.

expected.json holds `runs` (key, number and command by name), `part_files`, and what {VERSION} answers in three states of
the folder: `as_packed`; `after_load`; and `after_resume`, with the missing units measured. In each state are

    runs              a row for each run of the warehouse
    migrations        the schema's migrations that the file has been through
    row_counts        rows of every table
    view_row_counts   rows of every view
    checksums         by table and run_id: `rows`; `sha256` of the rows; and for each of `columns` the number of values that
                      are not NULL, with their sum (math.fsum) or, of other types than numbers, their SHA-256
    answers           queries with all their rows

A row is JSON (json.dumps) of the list of its values in the order of `columns`; a SHA-256 is that of such rows, or of the
single values as JSON, sorted and joined by newlines. REAL values are taken as the float64 they are equal to.

As packed and after the load, checksums hold to the bit, since loading copies values; what views compute holds to a relative
1e-9 or so. After resuming, units 2 and 3 of the unfinished run may differ by a step of 1e-4 from one machine to another, and
sha256 with it.
"""
