"""Units are handed out until every one is finished, whoever is lost on the way."""

import random

from selfrepair.ingest.fleet.schedule import Schedule


def test_the_largest_units_come_first_and_equal_ones_in_order():
    schedule = Schedule({0: 5, 1: 9, 2: 5, 4: 9})
    handed_out = []
    while (unit := schedule.hand_out("a")) is not None:
        handed_out.append(unit)
        assert schedule.finish("a") == unit
    assert handed_out == [1, 4, 0, 2]


def test_the_unit_of_a_lost_worker_is_the_next_one_s():
    schedule = Schedule({0: 5, 1: 5, 2: 5})
    assert [schedule.hand_out(worker) for worker in "ab"] == [0, 1]
    assert schedule.finish("b") == 1
    assert schedule.rows_left == 10
    assert schedule.lose("a") == 0
    assert schedule.lose("c") is None
    assert [schedule.hand_out(worker) for worker in "bc"] == [0, 2]
    assert schedule.hand_out("d") is None
    assert not schedule.is_done
    assert [schedule.finish(worker) for worker in "bc"] == [0, 2]
    assert schedule.is_done
    assert schedule.rows_left == 0


def test_every_unit_is_finished_once_whatever_workers_are_lost():
    draw = random.Random(3)
    for _ in range(50):
        schedule = Schedule({unit: draw.randrange(1, 4) for unit in range(draw.randrange(20))})
        workers, held, finished = list("abcd"), {}, []
        while not schedule.is_done:
            worker = draw.choice(workers)
            if worker not in held:
                if (unit := schedule.hand_out(worker)) is not None:
                    held[worker] = unit
            elif draw.random() < 0.2 and len(workers) > 1:
                assert schedule.lose(worker) == held.pop(worker)
                workers.remove(worker)
            else:
                finished.append(schedule.finish(worker))
                assert held.pop(worker) == finished[-1]
        assert len(set(finished)) == len(finished)
        assert schedule.hand_out("z") is None
