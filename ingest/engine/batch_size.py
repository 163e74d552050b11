"""How many sequences go through a layer at once when `--batch-size auto` leaves it to us.

It only ever changes speed and memory. On the CPU it follows from the model's shape alone, so that a resumed run takes
the same size again; on a GPU from the memory that is free, and running out of it halves the size (`measure`).
"""

import torch

from selfrepair.ingest.models.adapter import Atlas

CPU_HIDDEN_BYTES = 24 * 2**20
"""What the MLP's hidden activations may take on a CPU: larger stacks fall out of the caches, smaller ones starve."""

GPU_TOKENS = 2**16
"""Tokens beyond which a GPU gains nothing."""

GPU_SHARE = 0.6
"""Share of the free memory that one stack may take."""


def auto_batch_size(atlas: Atlas, seq_len: int) -> int:
    """Sequences of `seq_len` tokens in one stack, at least 1."""
    bytes_per_number = torch.finfo(atlas.layer_dtype).bits // 8
    if atlas.device.type != "cuda":
        return max(1, CPU_HIDDEN_BYTES // (seq_len * atlas.d_mlp * bytes_per_number))
    free, _ = torch.cuda.mem_get_info(atlas.device)
    # Hidden activations twice (before and after the nonlinearity), the stream and its copies in float32.
    per_token = 3 * atlas.d_mlp * bytes_per_number + 10 * atlas.d_model * 4
    return max(1, min(GPU_TOKENS // seq_len, int(GPU_SHARE * free / (per_token * seq_len))))
