"""The HTTP API over a real server: rows in every format, pages, states, errors, methods and the door."""

import io
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import polars as pl
import psutil
import pyarrow as pa
import pytest

from selfrepair import FewRows, Warehouse
from selfrepair.app.components.figure import http_address
from selfrepair.app.server.query_api.formats import FORMATS, accepted
from selfrepair.app.server.query_api.openapi import document
from selfrepair.app.server.serve_http import serve
from selfrepair.queries.catalog.questions import questions
from selfrepair.queries.catalog.relations import relations
from selfrepair.queries.sandbox.fence import LONGEST_QUERY
from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.errors import SelfRepairError
from support.browser import COMMAND, free_port, served
from support.http_api import Client, serving
from support.loaded import loaded

TOKEN = "a token of these tests"
HEADS = "/api/v1/views/head_repair"


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loaded(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def client(db: Path) -> Iterator[Client]:
    with serving(db) as found:
        yield found


def test_every_format_has_the_rows_that_python_has(client: Client, db: Path) -> None:
    expected = Warehouse(db).view("head_repair", model="tiny-model", ablation="mean", head="L1H2")
    assert expected.height == 3
    query = "?model=tiny-model&ablation=mean&head=L1H2"
    read = {
        "parquet": pl.read_parquet,
        "csv": pl.read_csv,
        "arrow": lambda body: pl.from_arrow(pa.ipc.open_stream(body).read_all()),
    }
    for kind in FORMATS:
        answer = client(f"{HEADS}.{kind}{query}")
        assert answer.status == 200
        if kind == "json":
            frame = pl.DataFrame(answer.rows, infer_schema_length=None)
        else:
            frame = read[kind](io.BytesIO(answer.body))  # type: ignore[operator]
            assert answer.headers["content-disposition"] == f'attachment; filename="head_repair.{kind}"'
        assert frame.columns == expected.columns
        assert frame["mean_self_repair"].to_list() == pytest.approx(expected["mean_self_repair"].to_list())
        assert sorted(frame["population"].to_list()) == sorted(expected["population"].cast(str).to_list())


def test_questions_tables_and_sql_have_the_rows_that_python_has(client: Client, db: Path) -> None:
    warehouse = Warehouse(db)
    with pytest.warns(FewRows):
        asked = warehouse.question("most_repaired_heads", at_most=3, model="tiny-model")
    found = client("/api/v1/questions/most_repaired_heads.json?at_most=3&model=tiny-model").rows
    assert [row["label"] for row in found] == asked["label"].to_list()
    assert len(client("/api/v1/tables/measurements?limit=10000").rows) == 864
    sql = "SELECT label, max(direct_effect) AS most FROM self_repair WHERE layer = $layer GROUP BY 1 ORDER BY 1"
    expected = [{**row, "most": pytest.approx(row["most"])} for row in warehouse.sql(sql, {"layer": 1}).to_dicts()]
    assert client(f"/api/v1/sql?{urlencode({'q': sql, 'layer': 1})}").rows == expected
    posted = client("/api/v1/sql.json?layer=1", "POST", sql.encode(), Content_Type="application/sql")
    assert posted.rows == expected
    assert "etag" in posted.headers


def test_listings_and_descriptions_have_the_catalogue(client: Client) -> None:
    by_kind = {kind: {each.name for each in relations().values() if each.kind == kind} for kind in ("table", "view")}
    assert {row["name"] for row in client("/api/v1/tables.json").rows} == by_kind["table"]
    assert {row["name"] for row in client("/api/v1/views").rows} == by_kind["view"]
    assert {row["name"] for row in client("/api/v1/questions").rows} == set(questions())
    (run,) = client("/api/v1/runs").rows
    assert (run["run_id"], run["model"], run["status"]) == (1, "tiny-model", "complete")
    for listing in ("tables", "views", "questions", "runs", "describe/runs"):
        assert all(client(f"/api/v1/{listing}.{kind}").status == 200 for kind in FORMATS)
    columns = client("/api/v1/describe/measurements").rows
    (change,) = [row for row in columns if row["column"] == "logit_change"]
    assert (change["type"], change["unit"]) == ("FLOAT", "logits")


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/tables/measurements?limit=300",
        f"{HEADS}?limit=7",
        "/api/v1/views/self_repair?limit=400&layer=1&layer=2",
    ],
)
def test_pages_together_are_the_whole_in_one_order(client: Client, path: str) -> None:
    whole = client(
        path.replace("limit=", "limit=10000&x=").replace("&x=300", "").replace("&x=7", "").replace("&x=400", "")
    )
    pages: list[dict[str, Any]] = []
    at: str | None = path
    while at is not None:
        answer = client(at)
        pages += answer.rows
        links = dict(reversed(link.strip().split("; ")) for link in answer.headers.get("link", "").split(",") if link)
        at = links['rel="next"'].strip("<>") if 'rel="next"' in links else None
    assert pages == whole.rows
    assert "link" not in whole.headers


def test_pages_of_sql_without_an_order_fit_together(client: Client) -> None:
    sql = "SELECT prompt_id, pos, count(*) AS n FROM measurements GROUP BY ALL"
    pages = [
        client(f"/api/v1/sql?{urlencode({'q': sql, 'limit': 10, 'offset': offset})}").rows
        for offset in range(0, 40, 10)
    ]
    together = [(row["prompt_id"], row["pos"]) for page in pages for row in page]
    assert len(set(together)) == len(together) == len(client(f"/api/v1/sql?{urlencode({'q': sql})}").rows)


def test_an_answer_is_known_by_its_etag_until_the_file_changes(tmp_path: Path) -> None:
    db = loaded(tmp_path)
    with serving(db) as client:
        first = client(f"{HEADS}.csv?limit=5")
        tag = first.headers["etag"]
        again = client(f"{HEADS}.csv?limit=5", If_None_Match=f'W/"other", {tag}')
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert client(f"{HEADS}.json?limit=5", If_None_Match=tag).status == 200  # another format is another answer
        assert client(f"{HEADS}.csv?limit=6", If_None_Match=tag).status == 200
        following = first.headers["link"].partition(">")[0].strip("<")
        assert client(following).status == 200
        with open_writer(db) as con:
            con.execute("UPDATE models SET name = 'renamed'")
        changed = client(f"{HEADS}.csv?limit=5", If_None_Match=tag)
        assert (changed.status, b"renamed" in changed.body) == (200, True)
        assert changed.headers["etag"] != tag
        assert client(following).status == 409


LONG = quote("SELECT " + "1, " * 350_000 + "1")
BAD = [
    ("/api/v1/tables/measurement", 404, "did you mean measurements"),
    ("/api/v1/tables/head_repair", 404, "/api/v1/views/head_repair"),
    ("/api/v1/views/runs", 404, "/api/v1/tables/runs"),
    ("/api/v1/questions/most_repaired_head.csv", 404, "did you mean most_repaired_heads"),
    ("/api/v1/describe/head_repiar", 404, "did you mean head_repair"),
    ("/api/v1/views/%00", 404, "there is no table or view"),
    ("/api/v1/tables/..%2f..%2fetc%2fpasswd", 404, "there is no table or view"),
    ("/api/v1/tables/1", 404, "there is no table or view '1'"),
    ("/api/v1/views/%E2%98%83%20%F0%9F%A9%B9.json", 404, "'☃ 🩹'"),
    ("/api/v1/views/head_repair.xml", 404, "head_repair"),
    ("/api/v1/nothing", 404, "/api/v1/docs"),
    ("/api/v1/sql/x", 404, "/api/v1/docs"),
    ("/api/v1/%0Aviews", 404, "/api/v1/docs"),
    (f"{HEADS}?limit=-1", 400, "limit takes a whole number from 0 to 10,000, not '-1'"),
    (f"{HEADS}?limit=10001", 400, "limit takes"),
    (f"{HEADS}?limit=%D9%A3", 400, "limit takes"),
    (f"{HEADS}?offset=1e3", 400, "offset takes"),
    (f"{HEADS}?limit=1&limit=2", 400, "limit is given 2 times"),
    (f"{HEADS}?as_of=before", 409, "Begin again"),
    (f"{HEADS}?colum=1", 400, "/api/v1/describe/head_repair"),
    (f"{HEADS}?columns=labl", 400, "did you mean label"),
    (f"{HEADS}?model=tiny-modle", 400, "did you mean tiny-model"),
    (f"{HEADS}?run=7", 400, "there is no run 7"),
    (f"{HEADS}?layer=x", 400, "'x'"),
    (f"{HEADS}?head=first", 400, "head"),
    ("/api/v1/runs?model=x", 400, "there is no parameter 'model' here"),
    ("/api/v1/questions/most_repaired_heads?at_most=many", 400, "a whole number"),
    ("/api/v1/questions/most_repaired_heads?atmost=1", 400, "did you mean at_most"),
    ("/api/v1/questions/tail_of_head", 400, "/api/v1/questions/tail_of_head?head=L9H6"),
    ("/api/v1/sql", 400, "give SQL"),
    ("/api/v1/sql?q=%20", 400, "give SQL"),
    ("/api/v1/sql?q=1&q=2", 400, "q is given 2 times"),
    ("/api/v1/sql?q=SELEC%201", 400, "SELEC"),
    ("/api/v1/sql?q=SELECT%20*%20FROM%20measurement", 400, "did you mean measurements"),
    ("/api/v1/sql?q=DROP%20TABLE%20runs", 400, "SELECT"),
    ("/api/v1/sql?q=FROM%20read_csv('/etc/passwd')", 400, "read_csv"),
    ("/api/v1/sql?q=SELECT%20$layer", 400, "layer"),
    ("/api/v1/sql?q=FROM%20runs;%20FROM%20runs", 400, "one"),
    (f"/api/v1/sql?q={LONG}", 414, "200,000"),
    (f"/api/v1/describe/{'x' * 1_000_000}", 404, "'xxx"),
    (f"/api/v1/questions/most_repaired_heads?at_most={'x' * 1_000_000}", 400, "'xxx"),
    (f"{HEADS}?{'x' * 1_000_000}=1", 400, "'xxx"),
]


@pytest.mark.parametrize(("path", "status", "text"), BAD, ids=[path[:60] for path, *_ in BAD])
def test_what_is_wrong_is_a_problem_with_the_next_step(client: Client, path: str, status: int, text: str) -> None:
    answer = client(path)
    assert answer.status == status, answer.body[:500]
    problem = answer.problem
    assert text in problem["detail"]
    assert "selfrepair " not in problem["detail"].replace("selfrepair query SQL", "")  # addresses, not commands
    assert "warehouse.views" not in problem["detail"]
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.body) < 5_000  # a view's columns, and no name of a megabyte
    if "next" in problem:
        assert client(problem["next"]).status == 200


def test_methods(client: Client) -> None:
    got, head = client(HEADS), client(HEADS, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert {**head.headers, "date": ""} == {**got.headers, "date": ""}
    assert client("/api/v1/tables/none", "HEAD").status == 404
    for path, allow in (
        (HEADS, "GET, HEAD, OPTIONS"),
        ("/api/v1/sql.csv", "GET, HEAD, OPTIONS, POST"),
        ("/api/v1", "GET, HEAD, OPTIONS"),
    ):
        assert (client(path, "OPTIONS").status, client(path, "OPTIONS").headers["allow"]) == (204, allow)
        for method in ("PUT", "DELETE", "PATCH", "BREW", *(["POST"] if "POST" not in allow else [])):
            refused = client(path, method, b"x")
            assert (refused.status, refused.headers["allow"]) == (405, allow)
            assert refused.problem["detail"].startswith(method)


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"FROM runs", "text/plain; charset=utf-8", 200),
        (b"FROM runs", "application/json", 415),
        (b"\xff\xfe", "text/plain", 400),
        (b"", "text/plain", 400),
        (b"x" * (LONGEST_QUERY + 1), "text/plain", 413),
        (b"x" * (4 * LONGEST_QUERY + 1), "text/plain", 413),
    ],
)
def test_sql_in_a_body(client: Client, body: bytes, media_type: str, status: int) -> None:
    assert client("/api/v1/sql", "POST", body, Content_Type=media_type).status == status


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("*/*", "json"),
        ("text/csv", "csv"),
        ("application/*;q=0.2, text/csv", "csv"),
        ("application/json;q=0.1, application/vnd.apache.parquet;q=0.9", "parquet"),
        ("application/json;q=0, */*", "csv"),
        ("text/html, */*;q=0.8", "json"),
        ("text/html", None),
        ("application/json;q=nothing", None),
        ("", None),
        (";;;,,q=1", None),
    ],
)
def test_accept(client: Client, header: str, kind: str | None) -> None:
    assert accepted(header) == kind
    if header:
        answer = client(f"{HEADS}?limit=1", Accept=header)
        assert answer.status == (406 if kind is None else 200)
        if kind is not None:
            assert answer.headers["vary"] == "Accept"
            assert client(f"{HEADS}.json?limit=1", Accept="text/html").headers["content-type"] == "application/json"


def test_the_documents_list_every_address_and_load_nothing(client: Client) -> None:
    told = json.loads(client("/api/v1/openapi.json").body)
    assert told == json.loads(json.dumps(document("/api/v1")))
    assert told["openapi"].startswith("3.1")
    for path, methods in told["paths"].items():
        if "{" not in path and not any(each["required"] for each in methods["get"]["parameters"]):
            assert client(f"/api/v1{path}").status in (200, 400), path  # a head's layer, or a model with mechanisms
    names = set(questions())
    assert {path.split("/")[2] for path in told["paths"] if path.startswith("/questions/") and "{" not in path} == names
    page = client("/api/v1/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    text = page.body.decode()
    assert all(name in text for name in names)
    assert "<script" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert "src=" not in text


def test_no_parameter_of_paging_is_a_column_or_a_parameter_of_a_question() -> None:
    taken = {"limit", "offset", "as_of", "columns", "q", "run"}
    assert taken.isdisjoint(column.name for relation in relations().values() for column in relation.columns)
    assert taken.isdisjoint(name for question in questions().values() for name in question.parameters)


def test_the_door_is_the_app_s(db: Path) -> None:
    with serving(db, TOKEN) as client:
        own = f"127.0.0.1:{client.port}"
        refused = client(HEADS)
        assert (refused.status, refused.problem["detail"].endswith("Authorization: Bearer TOKEN")) == (403, True)
        assert client(HEADS, Authorization="Bearer another token").status == 403
        assert client(HEADS, Authorization=f"Bearer {TOKEN}").status == 200
        opened = f"{HEADS}?{urlencode({'token': TOKEN, 'limit': 1})}"
        assert len(client(opened).rows) == 1  # a program
        link = client(opened, Accept="text/html,*/*;q=0.8")
        assert (link.body, link.headers["refresh"]) == (b"", "0; url=?limit=1")
        cookie = link.headers["set-cookie"].partition(";")[0]
        assert client(f"{HEADS}?limit=1", Cookie=cookie).status == 200
        entered = {"Cookie": cookie, "Host": own}
        assert client(HEADS, **(entered | {"Host": "evil.example"})).status == 403
        assert client(HEADS, **entered, Origin="http://evil.example").status == 403
        foreign = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
        assert client(HEADS, **entered, **foreign).status == 200
        linked = client("/api/v1/sql?q=FROM%20runs", **entered, **foreign)
        assert (linked.status, linked.problem["detail"].startswith("a link on another site")) == (403, True)
        assert client("/api/v1/sql?q=FROM%20runs", **entered, **(foreign | {"Sec_Fetch_Site": "none"})).status == 200


def test_limits_of_time_and_room_are_problems_and_a_missing_file_too(tmp_path: Path) -> None:
    db = loaded(tmp_path)
    with serving(db) as client:
        wide = "SELECT repeat('x', 10000) FROM range(10000)"
        answer = client(f"/api/v1/sql.csv?{urlencode({'q': wide, 'limit': 10000})}")
        assert (answer.status, "more than the 64 MB it may have" in answer.problem["detail"]) == (422, True)
        assert client("/api/v1/runs").status == 200
        db.unlink()
        gone = client("/api/v1/runs?limit=3")
        assert (gone.status, gone.headers["retry-after"]) == (503, "3")
        assert "there is no warehouse" in gone.problem["detail"]


@pytest.mark.slow
def test_the_app_answers_at_the_same_addresses_beside_its_pages(
    db: Path, monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    monkeypatch.setenv("STREAMLIT_SERVER_BASE_URL_PATH", "lab")
    port = free_port()
    with served(db, port):
        below = Client(port)
        sql = "SELECT label, mean_self_repair FROM head_repair"
        monkeypatch.setattr("streamlit.get_option", lambda name: "lab" if name == "server.baseUrlPath" else None)
        expected = client(f"/api/v1/sql?{urlencode({'q': sql})}").rows
        assert below(http_address(sql)).rows == expected
        assert below("/lab/api/v1/docs").status == 200
        assert below("/lab/api/v1/views/none").problem["next"] == "/lab/api/v1/views"
        assert below("/lab/api/v1/sql?q=" + quote("SELECT " + "1, " * 100_000)).status == 414
        following = below("/lab/api/v1/sql?q=FROM%20measurements&limit=800").headers["link"]
        assert len(below(following.partition(">")[0].strip("<")).rows) == 64


@pytest.mark.slow
def test_the_command_serves_until_ctrl_c_and_leaves_nothing(db: Path) -> None:
    port = free_port()
    command = [*COMMAND[:-1], "serve", "--db", str(db), "--port", str(port)]
    with subprocess.Popen(
        command,
        stdout=-1,
        stderr=-1,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said == f"{db} at http://localhost:{port}/api/v1/docs (Ctrl-C to stop)\n"
        assert len(Client(port)("/api/v1/runs").rows) == 1
        assert Client(port)("/api/v1/sql?q=" + quote("SELECT " + "1, " * 350_000 + "1")).status == 414
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=300)
    assert (process.returncode, told) == (0, "\nStopped.\n")
    psutil.wait_procs(started, timeout=300)
    assert not any(child.is_running() for child in started)


def test_serving_to_other_machines_needs_a_token(db: Path) -> None:
    with pytest.raises(SelfRepairError, match=r"Run: selfrepair serve --host 0\.0\.0\.0 --token auto"):
        serve.callback(db=db, port=free_port(), host="0.0.0.0", token=None, allowed=())  # type: ignore[misc]
