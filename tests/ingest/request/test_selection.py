"""What the command line asks for is read whole, or refused with the next step."""

import pytest
import torch

from selfrepair.ingest.request import devices, selection
from selfrepair.warehouse.errors import SelfRepairError


def test_ablations_come_in_their_usual_order():
    assert selection.parse_ablations("zero, resample") == ("resample", "zero")


def test_heads_are_layers_and_single_heads_together():
    assert selection.parse_heads(None, None, 2, 2) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert selection.parse_heads("1-2", "L0H3,l4h0", 5, 4) == [
        (0, 3),
        *((layer, head) for layer in (1, 2) for head in range(4)),
        (4, 0),
    ]


def test_shards_share_all_units():
    shards = [selection.parse_shard(f"{i}/3") for i in (1, 2, 3)]
    assert [[unit for unit in range(7) if shard.has(unit)] for shard in shards] == [[0, 3, 6], [1, 4], [2, 5]]
    assert all(selection.parse_shard(None).has(unit) for unit in range(7))


def test_batch_size_and_device():
    assert selection.parse_batch_size("auto") is None
    assert selection.parse_batch_size("7") == 7
    assert devices.choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: selection.parse_ablations("knockout"),
            r"--ablation knockout is unknown\. Choose from resample, mean, zero",
        ),
        (lambda: selection.parse_ablations(" , "), r"--ablation is empty\. Choose from resample, mean, zero"),
        (lambda: selection.parse_heads("7", None, 3, 4), r"--layers 7 is not in the model, which has layers 0 to 2"),
        (lambda: selection.parse_heads("2-1", None, 3, 4), r"--layers 2-1 ends before it begins"),
        (lambda: selection.parse_heads("top", None, 3, 4), r"--layers top is not a layer"),
        (lambda: selection.parse_heads(None, "L1H4", 3, 4), r"--heads L1H4 is not in the model.*L0H0 to L2H3"),
        (lambda: selection.parse_heads(None, "9.6", 3, 4), r"--heads 9\.6 is not a head\. Write for example L9H6"),
        (lambda: selection.check_heads(",", None, None), r"--layers and --heads are empty"),
        (lambda: selection.check_heads(None, "L1H0", "L1H0,L0H0"), r"L1H0 is in --heads and in --given"),
        (lambda: selection.without_given([(0, 0)], [(0, 0)]), r"--given leaves no head"),
        (lambda: selection.parse_shard("3/2"), r"--shard 3/2 is not i/n"),
        (lambda: selection.parse_shard("0/2"), r"--shard 0/2 is not i/n"),
        (lambda: selection.parse_batch_size("0"), r"--batch-size 0 is neither auto nor"),
        (lambda: devices.choose_device("cpu:foo"), r"--device cpu:foo is not a device"),
        (lambda: devices.choose_device("cpu:1"), r"--device cpu:1 is not on this machine, which has 1"),
        (lambda: devices.choose_device("tpu"), r"--device tpu is not on this machine \(found: .*cpu\)"),
        (lambda: devices.choose_precision("tf32", torch.device("cpu")), r"tf32 needs an NVIDIA GPU"),
        (lambda: devices.choose_precision("float64", torch.device("mps")), r"float64 does not exist on Apple"),
    ],
)
def test_bad_requests_name_the_next_step(call, message):
    with pytest.raises(SelfRepairError, match=message):
        call()
