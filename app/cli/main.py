"""The `selfrepair` command: its subcommands by purpose. Each folder keeps its own commands beside its code."""

import click

from selfrepair.app.cli.lazy_group import Command, LazyGroup

_RUN_REPORT = "selfrepair.app.cli.run_report:print_report"

SECTIONS = {
    "Measure": {
        "demo": Command(
            "selfrepair.app.cli.demo:demo", "Measure the bundled model and print self-repair by layer.", _RUN_REPORT
        ),
        "reproduce": Command(
            "selfrepair.app.cli.reproduce:reproduce",
            "Measure a model from the paper and compare the numbers.",
        ),
        "ingest": Command("selfrepair.ingest.cli.ingest:ingest", "Measure a model and keep every row.", _RUN_REPORT),
        "prompts": Command(
            "selfrepair.ingest.cli.prompts:prompts", "Write a task to measure: prompts with an answer and a foil."
        ),
        "bench": Command("selfrepair.ingest.cli.bench:bench", "Time the engine against matmul and against hooks."),
    },
    "Store": {
        "load": Command("selfrepair.warehouse.cli.commands:load", "Load finished units into the warehouse."),
        "status": Command(
            "selfrepair.warehouse.cli.status:status", "Show how far each run is, while it is measured or after."
        ),
        "verify": Command("selfrepair.warehouse.cli.commands:verify", "Check the consistency of a warehouse."),
        "runs": Command("selfrepair.warehouse.cli.commands:runs", "List the runs of a warehouse."),
        "remove": Command(
            "selfrepair.warehouse.cli.commands:remove", "Remove a run from a warehouse, with all its rows."
        ),
        "merge": Command("selfrepair.warehouse.cli.merge:merge", "Make one warehouse of several."),
        "publish": Command(
            "selfrepair.queries.cli.publish:publish",
            "Publish runs in a folder, on the hub or in a bucket.",
        ),
        "move": Command("selfrepair.warehouse.cli.lakes:move", "Move a warehouse from a file into a lake, or back."),
        "clean": Command(
            "selfrepair.warehouse.cli.lakes:clean", "Remove old snapshots of a lake, and files that nothing needs."
        ),
        "name": Command("selfrepair.warehouse.cli.names:name", "Give a run a name."),
        "note": Command("selfrepair.warehouse.cli.names:note", "Keep a note with a run, in place of the one before."),
        "tag": Command("selfrepair.warehouse.cli.names:tag", "Add tags to a run, or remove some."),
        "models": Command("selfrepair.ingest.cli.models:models", "List the models of a warehouse."),
        "refresh": Command("selfrepair.queries.cli.refresh:refresh", "Bring the views and their summaries up to date."),
    },
    "Query": {
        "query": Command("selfrepair.queries.cli.query:query", "Answer a question, a table or view by name, or SQL."),
        "questions": Command(
            "selfrepair.queries.cli.names:questions",
            "List the built-in questions, or describe some of them.",
        ),
        "views": Command("selfrepair.queries.cli.names:views", "List the tables and views that can be queried."),
        "describe": Command(
            "selfrepair.queries.cli.names:describe",
            "Describe a table, view or question: its columns, its parameters.",
        ),
        "export": Command("selfrepair.queries.cli.export:export", "Write an answer to a file."),
    },
    "Explore": {
        "app": Command("selfrepair.app.server.serve:app", "Explore a warehouse in the browser."),
        "mcp": Command(
            "selfrepair.app.server.assistants.command:mcp",
            "Let an AI assistant query the warehouse (Model Context Protocol).",
        ),
        "serve": Command("selfrepair.app.server.serve_http:serve", "Answer queries over HTTP, for any client."),
    },
}
"""Every command by heading, with its own line of help: a test compares the two."""


@click.group(
    cls=LazyGroup,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: selfrepair demo",
)
@click.version_option(package_name="selfrepair", prog_name="selfrepair")
def main() -> None:
    """Measure self-repair in language models, head by head, into a SQL warehouse."""
