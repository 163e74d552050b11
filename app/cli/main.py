"""The `selfrepair` command: what it can do, by purpose. Each folder keeps its own commands beside its code."""

import click

from selfrepair.app.cli.lazy_group import Command, LazyGroup

SECTIONS = {
    "Measure": {
        "demo": Command("selfrepair.app.cli.demo:demo", "Measure the bundled model and print what came out."),
        "reproduce": Command(
            "selfrepair.app.cli.reproduce:reproduce",
            "Measure a model of the paper and compare the numbers.",
        ),
        "ingest": Command("selfrepair.ingest.cli.ingest:ingest", "Measure a model and keep every row."),
        "prompts": Command(
            "selfrepair.ingest.cli.prompts:prompts", "Write a task to measure: prompts with an answer and a foil."
        ),
        "bench": Command("selfrepair.ingest.cli.ingest:bench", "Time the engine against matmul and against hooks."),
    },
    "Keep": {
        "load": Command("selfrepair.warehouse.cli.commands:load", "Load finished units into the warehouse."),
        "verify": Command("selfrepair.warehouse.cli.commands:verify", "Check a warehouse against its own rules."),
        "runs": Command("selfrepair.warehouse.cli.commands:runs", "List the runs of a warehouse."),
        "remove": Command(
            "selfrepair.warehouse.cli.commands:remove", "Remove a run of a warehouse, with all its rows."
        ),
        "models": Command("selfrepair.ingest.cli.models:models", "List the models of a warehouse."),
        "refresh": Command("selfrepair.queries.cli.refresh:refresh", "Bring the views and their summaries up to date."),
    },
    "Ask": {
        "query": Command("selfrepair.queries.cli.query:query", "Answer a question, a table or view by name, or SQL."),
        "questions": Command(
            "selfrepair.queries.cli.names:questions",
            "List the canned questions, or describe some of them.",
        ),
        "views": Command("selfrepair.queries.cli.names:views", "List the tables and views that can be queried."),
        "describe": Command(
            "selfrepair.queries.cli.names:describe",
            "Describe tables, views and questions: every column, every parameter.",
        ),
        "export": Command("selfrepair.queries.cli.export:export", "Write an answer, or the whole warehouse, to files."),
    },
    "Look": {
        "app": Command("selfrepair.app.server.serve:app", "Look at a warehouse in the browser."),
    },
}
"""Every command by heading, with the line of help it has of its own: a test holds the two equal."""


@click.group(
    cls=LazyGroup,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with: selfrepair demo",
)
@click.version_option(package_name="selfrepair", prog_name="selfrepair")
def main() -> None:
    """Self-repair of language models, measured head by head and kept in a SQL warehouse."""
