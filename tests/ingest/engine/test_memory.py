"""Batches are halved when memory runs out, and no prompt is lost or measured twice."""

import pytest
import torch

from selfrepair.ingest.engine.memory import BatchSize, is_out_of_memory
from selfrepair.warehouse.errors import SelfRepairError

CPU = torch.device("cpu")


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")], ids=["host", "device"])
@pytest.mark.slow
def test_every_prompt_is_in_one_batch_however_often_the_size_is_halved(error):
    halved, done = [], []
    batch_size = BatchSize(12, CPU, halved.append)

    def work(here: slice) -> None:
        if here.stop - here.start > (5 if not done else 2):  # what is kept of the first batch takes room, too
            raise error
        done.extend(range(20)[here])

    batch_size.for_each_batch(20, lambda size: size, work)
    assert done == list(range(20))
    assert halved == [6, 3, 1]
    assert batch_size.size == 1


def test_the_result_is_that_of_the_size_that_fits():
    def work(size: int) -> int:
        if size > 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return 10 * size

    assert BatchSize(16, CPU).fit(work) == 40


def test_other_errors_are_not_tried_again():
    tried = []

    def work(size: int) -> None:
        tried.append(size)
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        BatchSize(8, CPU).fit(work)
    assert tried == [8]
    assert not is_out_of_memory(ValueError("4 of 5"))


def test_where_not_one_sequence_fits_the_error_says_what_to_try():
    def work(size: int) -> None:
        raise MemoryError

    with pytest.raises(
        SelfRepairError, match=r"not even one sequence fits in the memory of cpu\. Try a shorter --seq-len"
    ):
        BatchSize(4, CPU).fit(work)
