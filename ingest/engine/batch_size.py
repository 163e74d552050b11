"""How many sequences go through a layer at once with `--batch-size auto`.

It only ever changes speed and memory. On the CPU it follows from the model's shape alone, so that a resumed run has the
same size again; on a GPU from the free memory, of several that of the fullest, less what slices of the vocabulary take, and
running out of it halves the size (`memory.BatchSize`).
"""

import torch

from selfrepair.ingest.engine.unembedding import slices_bytes
from selfrepair.ingest.models.adapter import ModelAdapter

CPU_HIDDEN_BYTES = 24 * 2**20
"""Bytes of the MLP's hidden activations on a CPU: larger stacks fall out of the caches, smaller ones leave cores idle."""

GPU_TOKENS = 2**16
"""Tokens beyond which a GPU is not faster per token."""

GPU_SHARE = 0.6
"""Share of the free memory for one stack."""


def auto_batch_size(adapter: ModelAdapter, seq_len: int) -> int:
    """Sequences of `seq_len` tokens in one stack, at least 1."""
    bytes_per_number = torch.finfo(adapter.layer_dtype).bits // 8
    if adapter.device.type != "cuda":
        return max(1, CPU_HIDDEN_BYTES // (seq_len * adapter.d_mlp * bytes_per_number))
    free = min(
        torch.cuda.mem_get_info(device)[0] - (slices_bytes(device) if device == adapter.device else 0)
        for device in adapter.devices
    )
    # Hidden activations twice (before and after the nonlinearity), the stream and its copies in float32.
    per_token = 3 * adapter.d_mlp * bytes_per_number + 10 * adapter.d_model * 4
    return max(1, min(GPU_TOKENS // seq_len, int(GPU_SHARE * free / (per_token * seq_len))))
