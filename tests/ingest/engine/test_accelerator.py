"""An accelerator gives the same numbers as the CPU. Runs where one is; elsewhere there is nothing to compare."""

import itertools

import pytest
import torch

from selfrepair.ingest.conventions import ABLATIONS, PRECISIONS
from selfrepair.ingest.engine.batch_size import auto_batch_size
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.request.devices import choose_precision
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measured import Measured
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import next_token_targets
from support import families

PROMPTS, SEQ = 5, 9
PARTNERS = [1, 2, 3, 4, 0]

DEVICE = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None
pytestmark = pytest.mark.skipif(DEVICE is None, reason="this machine has no GPU that torch can use")


def measure(family: str, device: str, dtype: str, precision: str = "float32", batch_size: int | None = 7) -> Measured:
    model = families.build(family, getattr(torch, dtype)).to(device)
    adapter = adapt(model, family)
    tokens = torch.randint(2, families.VOCABULARY, (PROMPTS, SEQ), generator=torch.Generator().manual_seed(3))
    measurer = Measurer(
        adapter,
        RunSettings(
            ABLATIONS,
            list(itertools.product(range(adapter.n_layers), range(adapter.n_heads))),
            precision=PRECISIONS[precision],
        ),
        batch_size=batch_size or auto_batch_size(adapter, SEQ),
    )
    measurer.means = measurer.head_value_sums(tokens) / tokens.numel()
    return measurer.measure(next_token_targets(tokens), tokens[PARTNERS][:, :-1], range(PROMPTS))


@pytest.fixture(scope="module", params=families.CONFIGS)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def exact(family):
    return measure(family, "cpu", "float64")


@pytest.mark.skipif(DEVICE == "mps", reason="Apple GPUs know no float64")
def test_float64_equals_the_cpu(family, exact):
    on_device = measure(family, DEVICE, "float64")
    # Rotary angles and RMSNorm are float32 in the families' own code, whatever the model's dtype.
    exact_throughout = family in ("gpt2", "opt")
    torch.testing.assert_close(on_device.effects, exact.effects, rtol=0, atol=1e-9 if exact_throughout else 1e-5)


@pytest.mark.parametrize("batch_size", [7, None])
def test_float32_stays_within_storage_rounding(family, exact, batch_size):
    on_device = measure(family, DEVICE, "float32", batch_size=batch_size)
    torch.testing.assert_close(on_device.effects.double(), exact.effects, rtol=0, atol=2e-4)
    torch.testing.assert_close(on_device.prediction.logprob.double(), exact.prediction.logprob, rtol=0, atol=1e-4)
    assert on_device.identity_error_max() < 2e-5


@pytest.fixture
def matmul_precision():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "tf32"])
@pytest.mark.usefixtures("matmul_precision")
def test_fast_precisions_keep_the_identity_and_the_order_of_magnitude(family, exact, precision):
    if precision == "tf32" and DEVICE != "cuda":
        pytest.skip("TF32 is NVIDIA's")
    chosen = choose_precision(precision, torch.device(DEVICE))
    on_device = measure(family, DEVICE, chosen.torch_dtype, precision)
    assert on_device.identity_error_max() < 1e-4
    error = (on_device.effects - exact.effects).abs().mean()
    assert float(error) < 0.1 * float(exact.effects.abs().mean())
