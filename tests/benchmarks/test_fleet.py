"""The fleet on paper: closed forms where there are any, every unit once where there are none, and figures read from a run."""

import math
import random
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.fleet import HEADING, PAGE, MeasuredUnit, Run, measured_units, run_of, section, simulate, with_section
from benchmarks.fleet_simulation import (
    Hazard,
    Loader,
    Unit,
    finished,
    load,
    load_into_files,
    load_into_lake,
    measure,
    shares,
)
from support.fabricate import fabricate
from support.loaded import loaded

WORKERS = st.integers(1, 9)
SECONDS = st.integers(1, 50)
UNITS = st.lists(st.builds(Unit, st.integers(1, 100), SECONDS.map(float)), min_size=1, max_size=25)
ARRIVALS = st.lists(st.tuples(st.integers(0, 100).map(float), st.integers(1, 50)), min_size=1, max_size=25).map(sorted)


@given(st.integers(1, 40), WORKERS, SECONDS, SECONDS)
def test_equal_units_take_so_many_rounds(n_units, n_workers, seconds, start_s):
    spans = measure([Unit(10, seconds)] * n_units, [1.0] * n_workers, start_s=start_s)
    rounds = math.ceil(n_units / n_workers)
    assert max(span.ended for span in spans) == start_s + rounds * seconds
    found = shares(spans, n_workers)
    time = n_workers * (start_s + rounds * seconds)
    assert found["measured"] == pytest.approx(n_units * seconds / time)
    assert found["idle"] == pytest.approx((n_workers * rounds - n_units) * seconds / time, abs=1e-12)


@given(UNITS, WORKERS)
def test_units_handed_out_as_workers_ask_end_within_the_bounds_of_any_such_order(units, n_workers):
    end = max(span.ended for span in measure(units, [1.0] * n_workers))
    each, longest = sum(unit.seconds for unit in units) / n_workers, max(unit.seconds for unit in units)
    assert max(each, longest) <= end + 1e-9
    assert end <= each + (1 - 1 / n_workers) * longest + 1e-9  # Graham 1966


def test_a_worker_twice_as_fast_measures_twice_as_much():
    spans = measure([Unit(1, 1.0)] * 300, [1.0, 2.0])
    assert Counter(span.worker for span in spans if span.kind == "measured") == {0: 100, 1: 200}


@given(UNITS, WORKERS, st.integers(0, 2**32), st.sampled_from([0.0, 3.0]), st.sampled_from([0.0, 7.0]))
@example([Unit(1, 1.0)], 1, 0, 0.0, 0.0)
def test_every_unit_is_measured_once_whatever_ends(units, n_workers, seed, start_s, back_s):
    hazards = [Hazard(40.0, back_s), Hazard(20.0, 0.0)]
    rng = random.Random(seed)
    speeds = [rng.uniform(0.5, 2) for _ in range(n_workers)]
    spans = measure(units, speeds, start_s=start_s, hazards=hazards, rng=rng)
    measured = [span for span in spans if span.kind == "measured"]
    assert sorted(span.unit for span in measured) == list(range(len(units)))
    assert sum(rows for _, rows in finished(spans, units)) == sum(unit.rows for unit in units)
    for span in measured:
        assert span.ended - span.began == pytest.approx(units[span.unit].seconds / speeds[span.worker])
    for who in ("worker", "unit"):  # neither is at two things at once
        for key in {getattr(span, who) for span in spans} - {-1}:
            times = sorted((span.began, span.ended) for span in spans if getattr(span, who) == key)
            assert all(end <= begin + 1e-9 for (_, end), (begin, _) in pairwise(times))
    found = shares(spans, n_workers)
    assert sum(found.values()) == pytest.approx(1)
    assert all(share >= 0 for share in found.values())


def test_failures_cost_what_theory_says():
    per_hour, seconds, n = 60.0, 60.0, 4000
    spans = measure([Unit(1, seconds)] * n, [1.0], hazards=[Hazard(per_hour, 0.0)], rng=random.Random(1))
    rate = per_hour / 3600
    expected = (
        n * (math.exp(rate * seconds) - 1) / rate
    )  # a unit is begun anew until it takes less than the next failure
    assert max(span.ended for span in spans) == pytest.approx(expected, rel=0.04)


def test_the_unit_of_a_worker_that_does_not_come_back_is_anothers_unless_none_is_left():
    units = [Unit(1, 3600.0)] * 4
    spans = measure(units, [1.0] * 50, hazards=[Hazard(1.0, None)], rng=random.Random(3))
    lost = [span for span in spans if span.kind == "lost"]
    assert lost
    for span in lost:
        assert span == [one for one in spans if one.worker == span.worker][-1]
        assert {one.worker for one in spans if one.unit == span.unit and one.kind == "measured"} - {span.worker}
    with pytest.raises(ValueError, match="no worker is left, and 4 units are"):
        measure(units, [1.0] * 2, hazards=[Hazard(1e6, None)])


@given(ARRIVALS, st.integers(1, 120))
def test_a_loader_that_rests_only_without_work_ends_when_queueing_theory_says(arrivals, least_rows):
    calls = load(arrivals, Loader(rows_per_s=10))
    left = [max(at + sum(rows for _, rows in arrivals[i:]) / 10 for i, (at, _) in enumerate(arrivals))]
    assert calls[-1].ended == pytest.approx(left[0])
    waiting = load(arrivals, Loader(rows_per_s=10, least_rows=least_rows))
    assert waiting[-1].ended >= calls[-1].ended - 1e-9
    assert all(call.rows >= least_rows for call in waiting[:-1])
    for found in (calls, waiting):
        assert sum(call.rows for call in found) == sum(rows for _, rows in arrivals)
        assert sum(call.units for call in found) == len(arrivals)
        assert all(before.ended <= after.began for before, after in pairwise(found))


@pytest.mark.parametrize("utilisation", [0.3, 0.8])
def test_a_loader_of_units_that_come_at_random_is_busy_as_in_m_d_1(utilisation):
    rng, at, arrivals = random.Random(5), 0.0, []
    for _ in range(20_000):
        at += rng.expovariate(utilisation)
        arrivals.append((at, 1))
    calls = load(arrivals, Loader(rows_per_s=1))
    assert sum(call.ended - call.began for call in calls) / calls[-1].ended == pytest.approx(utilisation, rel=0.03)
    # A unit that comes to a resting loader is taken at once: that is what 1 - utilisation of them find (PASTA).
    ends = {call.began for call in calls}
    assert sum(at in ends for at, _ in arrivals) / len(arrivals) == pytest.approx(1 - utilisation, abs=0.03)


def test_what_a_load_takes_is_per_call_unit_and_row_and_summaries_are_of_all_rows():
    loader = Loader(rows_per_s=10, call_s=1, unit_s=2, least_rows=20, summaries_s=3, summaries_rows_per_s=5)
    arrivals = [(0.0, 10), (1.0, 10), (100.0, 10)]
    assert load(arrivals, loader) == [(1.0, 1 + 1 + 4 + 2, 2, 20), (100.0, 100 + 1 + 2 + 1, 1, 10)]
    assert load(arrivals, loader, summaries_each=True) == [(1.0, 8 + 3 + 4, 2, 20), (100.0, 104 + 3 + 6, 1, 10)]


@given(ARRIVALS)
def test_one_writer_among_none_is_the_one_loader(arrivals):
    loader = Loader(rows_per_s=10, unit_s=0.5)
    end = load(arrivals, loader)[-1].ended
    assert load_into_files(arrivals, loader, 1) == load_into_lake(arrivals, loader, 1) == end


def test_several_writers_share_the_units_and_then_merge_or_commit_one_after_the_other():
    loader = Loader(rows_per_s=10, least_rows=20, merge_rows_per_s=5, commit_s=3)
    arrivals = [(0.0, 10)] * 4
    assert load_into_files(arrivals, loader, 2) == 2 + 20 / 5
    assert load_into_lake(arrivals, loader, 2) == 2 + 3 + 3


RUN = Run("made up", "cpu", 1000, 1000, 500, math.inf, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(("n_workers", "loader_rows_per_s"), [(8, 800_000), (8, 200_000), (64, 5_000_000)])
def test_the_loader_is_as_busy_as_workers_make_it(n_workers, loader_rows_per_s):
    run = replace(RUN, n_prompts=4000, rows_per_prompt=600_000, rows_per_s=60_000, unit_spread=0.3)
    rate = n_workers * run.rows_per_s * math.exp(-(0.3**2) / 2)  # the mean of a unit's time is above the typical one
    found = simulate(run, n_workers, Loader(loader_rows_per_s), (), writers=2)
    assert found.loader_busy == pytest.approx(min(1, rate / loader_rows_per_s), rel=0.05)
    assert found.all_in == pytest.approx(run.rows / min(rate, loader_rows_per_s), rel=0.05)
    assert found.limit == ("loader" if rate > loader_rows_per_s else "workers")


def test_no_more_workers_measure_than_there_are_prompts_and_a_start_may_be_all_that_is_waited_for():
    assert simulate(RUN, 2000, Loader(1e9), (), writers=2).limit == "prompts"
    assert simulate(replace(RUN, start_s=1000.0), 8, Loader(1e9), (), writers=2).limit == "start"


@given(st.integers(1, 300), st.integers(1, 10**6), WORKERS, st.sampled_from([1, 4]))
def test_units_hold_all_prompts_whole(n_prompts, rows_per_prompt, n_workers, larger):
    run = replace(RUN, n_prompts=n_prompts, rows_per_prompt=rows_per_prompt)
    units = run.units(n_workers, random.Random(0), larger)
    assert sum(unit.rows for unit in units) == run.rows
    assert all(unit.rows % rows_per_prompt == 0 for unit in units)
    assert all(unit.rows <= max(600_000, rows_per_prompt) * larger for unit in units)
    assert len(units) >= min(n_prompts, 4 * n_workers) / larger


def test_the_units_of_a_run_are_read_from_its_part_files_and_from_the_warehouse_alike(tmp_path):
    parts = fabricate().write(tmp_path / "parts").root
    found = [measured_units(place) for place in (loaded(tmp_path), parts)]
    for units in found:
        assert [unit[:4] for unit in units] == [("abacus:100", 3, 432, 2.5), ("abacus:101", 3, 432, 3.5)]
        assert units[0].measured_at <= units[1].measured_at


def test_a_run_is_replayed_as_fast_and_as_unevenly_as_it_was_measured():
    units, ended = [], dict.fromkeys("ab", datetime(2026, 1, 1))
    for number in range(
        6
    ):  # b takes twice as long as a, its last unit half as much again, and writing takes a fifth second
        worker = "ab"[number % 2]
        seconds = (1 + number % 2) * (1.5 if number == 5 else 1.0)
        ended[worker] += timedelta(seconds=seconds + 0.2)
        units.append(MeasuredUnit(worker, 2, 100, seconds, ended[worker]))
    run = run_of(units, "replayed", 5.0)
    assert (run.n_prompts, run.rows, run.start_s) == (12, 600, 5.0)
    assert run.rows_per_s == pytest.approx(100 / 1.5)
    assert run.write_rows_per_s == pytest.approx(100 / 0.2)
    assert sorted(run.speed_spread) == pytest.approx([1 / 1.5, 2 / 1.5])
    assert sorted(run.unit_spread) == pytest.approx([1, 1, 1, 1, 1, 1.5])
    assert {round(speed, 6) for speed in run.speeds(50, random.Random(0))} == {1.5, 0.75}


def test_where_no_unit_says_who_measured_it_there_is_nothing_to_replay(tmp_path):
    with pytest.raises(click.ClickException, match=r"no unit in .* says who measured it"):
        measured_units(tmp_path)


def test_the_page_has_the_tables_of_today():
    assert section() in PAGE.read_text(encoding="utf-8"), "run python -m benchmarks.fleet --write"


def test_the_section_takes_its_old_place():
    page = f"# Cluster\n\ntext\n\n{HEADING}\n\nold\n\n## Next\n\nmore\n"
    written = with_section(page)
    assert written == f"# Cluster\n\ntext\n\n{section()}\n\n## Next\n\nmore\n"
    assert with_section(written) == written
    assert with_section("# Cluster\n\ntext\n") == f"# Cluster\n\ntext\n\n{section()}\n"
