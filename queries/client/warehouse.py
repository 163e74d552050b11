"""A warehouse from Python: queries in, polars frames out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from selfrepair.queries.catalog.filters import listed
from selfrepair.queries.catalog.headline import Chosen
from selfrepair.queries.catalog.heads import split_label
from selfrepair.queries.catalog.which_run import RUNS, Run
from selfrepair.queries.client.calls import WAREHOUSE, checked
from selfrepair.queries.client.frames import described, listed_questions, listed_views
from selfrepair.queries.client.notices import Truncated, warn, warn_few, warn_out_of_date, warn_unmeasured
from selfrepair.queries.client.spelling import refuse_misspelt
from selfrepair.queries.sandbox.answer import Answer, OnNote, Params, polars_frame
from selfrepair.queries.sandbox.process import Reply, Request, ask
from selfrepair.queries.sandbox.query import HeadQuery, Query, QuestionQuery, SqlQuery, ViewQuery
from selfrepair.warehouse.database.address import warehouse_path
from selfrepair.warehouse.database.limits import Limits
from selfrepair.warehouse.database.publication import address_of
from selfrepair.warehouse.errors import Language, SelfRepairError, check_there, errors_in

if TYPE_CHECKING:
    import sqlalchemy as sa

MOST_ROWS = 1_000_000
"""Rows that come back where no limit is given."""

TIME_LIMIT_S = 60.0
"""How long a query may run by default [s]."""

_REPR_WAIT_S = 0.5


class Warehouse:
    """The warehouse in the DuckDB file `path`, `$SELFREPAIR_DB` or else selfrepair.duckdb if no path is given; or what somebody
    published: a folder, `hf://datasets/OWNER/NAME` or `s3://BUCKET/FOLDER`.

    Every query opens the file for reading, runs in a process of its own, and closes the file: a load that runs at the same
    time waits for one query at most, and a query that goes wrong harms nothing here. `limits` says what a query may take. A
    load that has the file open is waited for, up to `wait_s` seconds. With `keep_open_s` the file stays open for so many
    seconds after an answer, which makes many queries in a row faster. selfrepair's own loads have it closed between two
    queries; another program that wants to write it is refused until then.
    `on_note` is called with a sentence about what is not up to date; without it that is a warning, `OutOfDate`. Errors
    name the next step in Python or, with `language="shell"`, as a command.

    Raises SelfRepairError where there is no file; none is made. So do methods, whose text says what was found and what to do:
    a wrong argument, no such table, column or model, wrong SQL (with the place), no warehouse or one of another version, a
    file that stays in use, out of time or memory. `view`, `question` and `sql` warn, `NotMeasured`, where an answer has no
    rows because no run measured what it is about; `view` and `question` warn, `FewRows`, where means are of fewer than 30
    rows or intervals of fewer than 12 documents.

    >>> from selfrepair import Warehouse
    >>> warehouse = Warehouse("selfrepair.duckdb")
    >>> warehouse
    <Warehouse selfrepair.duckdb: run 1 of tiny-model>
    """

    @checked(WAREHOUSE)
    def __init__(
        self,
        path: str | Path | None = None,
        *,
        limits: Limits | None = None,
        wait_s: float = 10.0,
        keep_open_s: float = 0.0,
        on_note: OnNote | None = None,
        language: Language = "python",
    ) -> None:
        if path is None:
            path = os.environ.get("SELFREPAIR_DB") or "selfrepair.duckdb"
        with errors_in(language):
            self.path = warehouse_path(path)
        self.limits = limits or Limits()
        self.wait_s = wait_s
        self.keep_open_s = keep_open_s
        self.language = language
        with errors_in(language):
            check_there(self.path)
        self._on_note = on_note or warn_out_of_date

    def __repr__(self) -> str:
        try:
            runs = self._quietly(RUNS, wait_s=_REPR_WAIT_S)
        except SelfRepairError as error:
            return f"<Warehouse {address_of(self.path)}: {str(error).splitlines()[0]}>"
        named = ", ".join(f"run {run['run_id']} of {run['model']}" for run in runs[:5]) or "no runs yet"
        return f"<Warehouse {address_of(self.path)}: {named}{f' and {len(runs) - 5} more' if len(runs) > 5 else ''}>"

    @checked(WAREHOUSE)
    def sql(
        self,
        query: str,
        params: Params | None = None,
        *,
        limit: int | None = MOST_ROWS,
        timeout_s: float | None = TIME_LIMIT_S,
    ) -> pl.DataFrame:
        """The rows that answer `query`: one SELECT (or DESCRIBE, SUMMARIZE, SHOW TABLES, EXPLAIN), or a view's name.

        `params` are values for `$name` in the query (a mapping) or for `?` (a sequence). At most `limit` rows come back,
        with a warning, `Truncated`, when there are more; None: all of them. The query may run for `timeout_s` seconds;
        None: no limit. SQL reads this file and nothing else: no other files, no network, no settings, no writing.

        >>> warehouse.sql("SELECT max(layer) AS last, count(*) AS n_rows FROM measurements").to_dicts()
        [{'last': 2, 'n_rows': 864}]
        >>> warehouse.sql("SELECT DISTINCT label FROM self_repair WHERE layer = $layer ORDER BY 1", {"layer": 0}).rows()
        [('L0H0',), ('L0H1',), ('L0H2',), ('L0H3',)]
        """
        frame = self._frame(self.ask(query, params, limit=limit, timeout_s=timeout_s), limit)
        if frame.is_empty() and limit != 0:
            warn_unmeasured(self._quietly, self.path, query)
        return frame

    @checked(WAREHOUSE)
    def ask(
        self,
        query: str,
        params: Params | None = None,
        *,
        limit: int | None = MOST_ROWS,
        timeout_s: float | None = TIME_LIMIT_S,
        flat: bool = False,
        on_wait: OnNote | None = None,
    ) -> Answer:
        """The same as `sql`, with `truncated` beside the frame instead of a warning: for programs.

        `flat` turns lists, maps and structs into JSON text; `on_wait` is called with a sentence that names the process
        which has the file.

        >>> answer = warehouse.ask("FROM measurements", limit=10)
        >>> answer.frame.height, answer.truncated
        (10, True)
        """
        return self._answer(SqlQuery(query, params), limit, timeout_s, flat=flat, on_wait=on_wait)

    @checked(WAREHOUSE)
    def ask_all(
        self,
        queries: Sequence[str],
        *,
        limit: int | None = MOST_ROWS,
        timeout_s: float | None = TIME_LIMIT_S,
        flat: bool = False,
        on_wait: OnNote | None = None,
        on_answer: Callable[[Answer], None] | None = None,
    ) -> list[Answer]:
        """The same for several queries, which the file is opened for once, unless a load wants it in between.

        `limit` and `timeout_s` are each one's.

        `on_answer` is given each answer as it comes, while the next query runs.

        >>> [answer.frame.height for answer in warehouse.ask_all(["FROM runs", "FROM measurements"])]
        [1, 864]
        """
        sql = [SqlQuery(query) for query in queries]
        if not sql:
            return []
        return self._answers(sql, limit, timeout_s, flat=flat, on_wait=on_wait, on_answer=on_answer)

    @checked(WAREHOUSE)
    def view(
        self,
        name: str,
        /,
        *,
        run: str | int | None = None,
        columns: Chosen = "all",
        limit: int | None = MOST_ROWS,
        timeout_s: float | None = TIME_LIMIT_S,
        **filters: Any,
    ) -> pl.DataFrame:
        """Rows of a view or table, those in which each column named in `filters` has the value, or one of a list.

        None stands for NULL. `run` is a run's number or name; `model="gpt2"` is enough where the model has one run, and raises
        with a list of its runs where it has several. `head="L9H6"` names a head with its layer, `head=["L9H6", "L9H9"]`
        several. `limit` and `timeout_s` are those of `sql`. What the columns mean, and their units: `describe(name)`.

        `columns` are the names to select, or `"headline"`: the few that say the answer. By default all of them come, the
        headline first and run_id, model, ablation and population last: of a wide frame polars prints
        the first four columns and the last four, and these then are the answer. Rows of population top2, each head's
        2 % of rows with the highest direct effect, come before those over all rows.

        >>> heads = warehouse.view("head_repair", model="tiny-model", ablation="mean", population="all", layer=[0, 2])
        >>> heads.height, heads["layer"].unique().to_list()
        (8, [0, 2])
        >>> warehouse.view("head_repair", columns=["label", "mean_self_repair"], head="L1H3", ablation="zero").columns
        ['label', 'mean_self_repair']
        """
        if run is not None and "run_id" in filters:
            raise SelfRepairError("run and run_id are the same: give one of them.")
        if run is not None:
            filters["run_id"] = run
        allowed = {column: listed(value) for column, value in filters.items()}
        frame = self._frame(self._answer(ViewQuery(name, allowed, columns), limit, timeout_s), limit)
        if frame.is_empty() and limit != 0:
            refuse_misspelt(self.ask, name, filters)
            warn_unmeasured(self._quietly, self.path, name, name, allowed)
        warn_few(frame)
        return frame

    @checked(WAREHOUSE)
    def question(self, name: str, /, **params: Any) -> pl.DataFrame:
        """The answer to one of the built-in questions: `questions()` lists them, `describe(name)` says more.

        `params` are the question's own, `run` is another name of its `run_id`, and `head="L9H6"` names a head with its layer.
        Where `model` names a model with several runs, this raises with a list of them.

        >>> warehouse.question("run_checks", model="tiny-model").select("run_id", "health").rows()
        [(1, 'ok')]
        """
        from selfrepair.queries.catalog.questions import bind

        with errors_in(self.language):
            query = QuestionQuery(*bind(name, params))
        frame = self._frame(self._answer(query, MOST_ROWS, TIME_LIMIT_S), MOST_ROWS)
        if frame.is_empty():
            warn_unmeasured(self._quietly, self.path, query.sql, name, query.values)
        warn_few(frame)
        return frame

    @checked(WAREHOUSE)
    def rows(
        self,
        model: str | int,
        layer: int | None = None,
        head: int | str | None = None,
        ablation: str = "resample",
        *,
        top: int | None = None,
        run: str | int | None = None,
        timeout_s: float | None = TIME_LIMIT_S,
    ) -> pl.DataFrame:
        """Every measured row of one head under one ablation, with the token it was read at and the target.

        `model` is a model's name or a run's number; `head="L9H6"` names a head with its layer. Rows come in order of prompt
        and position or, with `top=N`, the N with the highest direct_effect, the strongest first. Effects are in logits:
        `describe("self_repair")`.

        >>> rows = warehouse.rows("tiny-model", layer=1, head=3, ablation="zero", top=2)
        >>> rows["label"].to_list(), rows["direct_effect"].is_sorted(descending=True)
        (['L1H3', 'L1H3'], True)
        """
        if top is not None and top < 1:
            raise SelfRepairError(
                f"top={top} selects no rows; give how many of the strongest rows to return, such as top=100"
            )
        place = split_label({name: value for name, value in (("layer", layer), ("head", head)) if value is not None})
        if place.keys() != {"layer", "head"}:
            raise SelfRepairError('rows are those of one head: name it, such as head="L9H6", or give layer=9, head=6.')
        layer, head = int(place["layer"]), int(place["head"])
        of_head = partial(HeadQuery, model=model, run=run, layer=layer, head=head, ablation=ablation)
        order = "prompt_id, pos"
        if top is not None:
            answer = self._answer(of_head("top_effect", "effect_rank"), top, timeout_s)
            if answer.frame.height == top:
                return answer.frame  # all within the head's top 2 %, which is stored
            order = "direct_effect DESC, prompt_id, pos"
        answer = self._answer(of_head("self_repair", order), top, timeout_s)
        if answer.frame.is_empty():
            named = f"run {model}" if isinstance(model, int) else model
            raise SelfRepairError(
                f"{named} has no rows of L{layer}H{head} under {ablation}: that head was not selected, or nothing is loaded "
                "yet. See: warehouse.runs()"
            )
        return answer.frame

    @checked(WAREHOUSE)
    def describe(self, name: str) -> pl.DataFrame:
        """What every column of a view, table or question's answer means: its name, type, unit and meaning. Prints whole.

        >>> columns = warehouse.describe("measurements")
        >>> columns.columns
        ['column', 'type', 'unit', 'meaning']
        >>> columns.filter(pl.col("column") == "logit_change").to_dicts()
        [{'column': 'logit_change', 'type': 'FLOAT', 'unit': 'logits', 'meaning': 'Ablated minus clean logit of the \
target; < 0: the ablation hurts, > 0: it helps'}]
        """
        with errors_in(self.language):
            return described(name, self._quietly)

    @checked(WAREHOUSE)
    def views(self) -> pl.DataFrame:
        """Every view and table: its name, its kind and what its rows describe. Prints whole.

        >>> warehouse.views().filter(pl.col("name") == "runs")["kind"].item()
        'table'
        """
        return listed_views()

    @checked(WAREHOUSE)
    def questions(self) -> pl.DataFrame:
        """Every built-in question: its name, what it answers and its parameters, those it needs first. Prints whole.

        >>> warehouse.questions().filter(pl.col("name") == "tail_of_head")["needs"].item()
        'layer, head'
        """
        return listed_questions()

    @checked(WAREHOUSE)
    def models(self) -> pl.DataFrame:
        """Every model that was measured: the table `models`, its newest last.

        >>> warehouse.models()["name"].to_list()
        ['tiny-model']
        """
        return self.ask("FROM models ORDER BY model_id").frame

    @checked(WAREHOUSE)
    def runs(self) -> pl.DataFrame:
        """Every run with the model and the dataset it measured, those that failed their cross-check among them.

        >>> warehouse.runs().select("run_id", "model", "dataset", "n_prompts", "status").rows()
        [(1, 'tiny-model', 'tiny-text', 6, 'complete')]
        """
        return self.ask(RUNS).frame

    @checked(WAREHOUSE)
    def engine(self) -> sa.Engine:
        """A SQLAlchemy engine that reads the file in this process, with this version's views; it cannot write.

        Its connections are closed when they are released, so that loads can go on: keep none open. SQL is not fenced there
        as in `sql`, but other files and the network stay closed, and memory is limited. While one is open, this process can
        open the file in the same way only.

        >>> import sqlalchemy as sa
        >>> with warehouse.engine().connect() as connection:
        ...     connection.execute(sa.text("SELECT count(*) FROM runs")).scalar_one()
        1
        """
        from selfrepair.queries.client.engine import read_only_engine

        return read_only_engine(self.path, self.limits, self.wait_s, self._on_note, self.language)

    def _answer(
        self,
        query: Query,
        limit: int | None,
        timeout_s: float | None,
        *,
        flat: bool = False,
        on_wait: OnNote | None = None,
    ) -> Answer:
        return self._answers([query], limit, timeout_s, flat=flat, on_wait=on_wait)[0]

    def _answers(
        self,
        queries: Sequence[Query],
        limit: int | None,
        timeout_s: float | None,
        *,
        flat: bool = False,
        on_wait: OnNote | None = None,
        on_answer: Callable[[Answer], None] | None = None,
    ) -> list[Answer]:
        answers: list[Answer] = []

        def take(reply: Reply) -> None:
            answers.append(Answer(polars_frame(reply.table), reply.truncated))
            if on_answer:
                on_answer(answers[-1])

        ask(self._request(queries, limit, timeout_s, self.wait_s, flat), self._on_note, on_wait, take)
        return answers

    def _quietly(
        self, query: str, params: Params | None = None, wait_s: float | None = None, timeout_s: float = TIME_LIMIT_S
    ) -> list[Run]:
        """Rows for this class' own use: notes are for those who asked."""
        wait_s = self.wait_s if wait_s is None else wait_s
        (reply,) = ask(self._request([SqlQuery(query, params)], None, timeout_s, wait_s, flat=False))
        return polars_frame(reply.table).to_dicts()

    def _request(
        self, queries: Sequence[Query], limit: int | None, timeout_s: float | None, wait_s: float, flat: bool
    ) -> Request:
        return Request(
            self.path.absolute(),
            tuple(queries),
            limit,
            timeout_s,
            wait_s,
            flat,
            self.limits,
            self.limits.answer_bytes,
            self.keep_open_s,
            self.language,
        )

    @staticmethod
    def _frame(answer: Answer, limit: int | None) -> pl.DataFrame:
        if answer.truncated:
            warn(f"truncated at {limit:,} rows; the query has more. limit=None gives all of them.", Truncated)
        return answer.frame
