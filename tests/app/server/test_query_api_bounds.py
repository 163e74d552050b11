"""What the HTTP API does with pages of ties, clients that leave, answers that grow as text, and addresses that grow."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from itertools import chain, repeat
from pathlib import Path
from urllib.parse import urlencode

import polars as pl
import pyarrow as pa
import pytest

from selfrepair.app.server import asking
from selfrepair.app.server.query_api import endpoint
from selfrepair.app.server.query_api.answers import told
from selfrepair.app.server.query_api.endpoint import QueryApi
from selfrepair.app.server.query_api.formats import encoded
from selfrepair.app.server.query_api.parameters import name_of
from selfrepair.app.server.query_api.problems import ProblemError
from selfrepair.queries.sandbox.served import file_state
from selfrepair.warehouse.errors import QueryLimitError
from support.http_api import Client, serving
from support.loaded import loaded

ENDLESS = "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c"


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loaded(tmp_path_factory.mktemp("bounds"))


@pytest.fixture(scope="module")
def client(db: Path) -> Iterator[Client]:
    with serving(db) as found:
        yield found


def sql(query: str, kind: str = "json", **more: object) -> str:
    return f"/api/v1/sql.{kind}?{urlencode({'q': query, **more})}"


def test_pages_of_rows_that_an_order_holds_equal_fit_together(client: Client) -> None:
    query = "SELECT range AS row, range % 3 AS tied FROM range(400) ORDER BY tied"
    pages = [client(sql(query, limit=50, offset=offset)).rows for offset in range(0, 400, 50)]
    assert list(chain.from_iterable(pages)) == client(sql(query)).rows


def test_a_query_ends_when_its_last_client_leaves(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "TIME_LIMIT_S", 3_000.0)
    with serving(db) as client:
        for number in (1, 1, 2, 3):  # twice the same, two at once, and one that waits
            with closing(socket.create_connection(("127.0.0.1", client.port))) as leaving:
                request = f"GET {sql(f'{ENDLESS} -- {number}')} HTTP/1.1\r\nHost: localhost:{client.port}\r\n\r\n"
                leaving.sendall(request.encode())
        assert client(sql("SELECT 1 AS one")).rows == [{"one": 1}]


def test_names_that_every_row_repeats_count_as_room() -> None:
    name = "x" * 100_000
    flat = pa.table({name: [1] * 3_000})
    fields = pa.table({"a": pa.array([[{name: 1}] * 100] * 30)})
    labels = pa.table({"a": pa.array([name] * 3_000).dictionary_encode()})
    for rows, kind in ((flat, "json"), (fields, "json"), (labels, "json"), (labels, "csv")):
        with pytest.raises(QueryLimitError, match=r"take \.arrow or \.parquet"):
            encoded(rows, kind)  # type: ignore[arg-type]
    assert encoded(flat, "csv").startswith(b"xxx")
    assert len(encoded(flat, "arrow")) < 1_000_000


def test_means_of_few_rows_are_said(client: Client) -> None:
    note = client("/api/v1/views/head_repair.csv?limit=5").headers["selfrepair-note"]
    assert "say little" in note
    assert "selfrepair-note" not in client("/api/v1/runs").headers


def test_what_is_of_the_moment_has_no_etag_and_is_not_kept(client: Client) -> None:
    first, second = (client(sql("SELECT random() AS x")) for _ in range(2))
    assert "etag" not in first.headers
    assert first.body != second.body
    assert "etag" in client(sql("SELECT 1 AS randomly_named")).headers


def test_a_page_of_another_state_is_refused_though_the_file_changes_in_between(
    client: Client, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = chain([file_state(db)], repeat((0,)))
    monkeypatch.setattr(endpoint, "file_state", lambda _db: next(states))
    assert client(f"/api/v1/views/layer_repair?as_of={name_of(file_state(db))}").status == 409


def test_a_link_that_no_header_holds_is_a_note(client: Client) -> None:
    answer = client(sql(f"FROM range(9) -- {'x' * 100_000}", limit=4))
    assert "link" not in answer.headers
    assert "limit=4&offset=4&as_of=" in answer.headers["selfrepair-note"]


def test_notes_are_one_line_of_printable_characters() -> None:
    assert told(["a\r\nSet-Cookie: b\x00\x7f", "é"]) == "a Set-Cookie: b?? ?"


def test_addresses_in_problems_are_those_below_the_app_s_path(db: Path) -> None:
    placed = QueryApi(db, "/lab")._placed(ProblemError(404, "none. See: /api/v1/views", "/api/v1/views"))
    assert (placed.detail, placed.step) == ("none. See: /lab/api/v1/views", "/lab/api/v1/views")


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-3", 206, slice(0, 4)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=-8", 206, slice(-8, None)),
        ("bytes=5-100000000", 206, slice(5, None)),
        ("bytes=100000000-", 416, None),
        ("bytes=3-1", 200, slice(None)),
        ("bytes=0-1,3-4", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
    ],
)
def test_parts_of_an_answer(client: Client, asked: str, status: int, part: slice | None) -> None:
    address = "/api/v1/views/layer_repair.parquet"
    whole = client(address)
    found = client(address, Range=asked, If_Range=whole.headers["etag"])
    assert found.status == status
    assert part is None or found.body == whole.body[part]
    assert (status == 200) == ("content-range" not in found.headers)
    assert client(address, Range=asked, If_Range='"of before"').body == whole.body


def test_polars_reads_an_address(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    at = f"http://127.0.0.1:{client.port}/api/v1/views/layer_repair"
    n_rows = len(client("/api/v1/views/layer_repair").rows)
    assert pl.read_parquet(f"{at}.parquet").height == pl.read_csv(f"{at}.csv").height == n_rows


def test_numbers_and_nothing_come_as_they_are(client: Client) -> None:
    query = "SELECT 9007199254740993 AS whole, 'nan'::DOUBLE AS nan, NULL AS none, '' AS empty, 0.1::FLOAT AS small"
    assert (
        client(sql(query)).body == b'[\n{"whole":9007199254740993,"nan":null,"none":null,"empty":"","small":0.1}\n]\n'
    )
    assert client(sql(query, "csv")).body == b'whole,nan,none,empty,small\n9007199254740993,NaN,,"",0.1\n'
    assert json.loads(client(sql("SELECT MAP {1: 2} AS m")).body) == [{"m": {"1": 2}}]
