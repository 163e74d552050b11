"""The two ways of attending to the clean keys are one, and both are the softmax written out."""

import pytest
import torch

from selfrepair.ingest import compat
from selfrepair.ingest.engine import clean_kv_attention
from selfrepair.ingest.engine.clean_kv_attention import Scores


@pytest.mark.parametrize("way", [clean_kv_attention.causal_attention, compat.causal_attention_on_cpu])
@pytest.mark.parametrize("n_pos", [1, 2, 33])
def test_causal_attention_and_its_sums(way, n_pos):
    query, keys, values = torch.randn(
        3, 2, 4, n_pos, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(n_pos)
    )
    found, log_total = way(query.clone(), keys, values, 0.3)
    for pos in range(n_pos):
        scores = 0.3 * torch.einsum("bhd,bhkd->bhk", query[:, :, pos], keys[:, :, : pos + 1])
        wanted = torch.einsum("bhk,bhkd->bhd", scores.softmax(dim=-1), values[:, :, : pos + 1])
        torch.testing.assert_close(found[:, :, pos], wanted, rtol=0, atol=1e-12)
        torch.testing.assert_close(log_total[:, :, pos], scores.logsumexp(dim=-1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_own_keys_are_changed_and_no_others(n_kv_heads):
    generator = torch.Generator().manual_seed(n_kv_heads)
    query = torch.randn(2, 4, 5, 8, dtype=torch.float64, generator=generator)
    key, value, keys, values = torch.randn(4, 2, n_kv_heads, 5, 8, dtype=torch.float64, generator=generator)
    found = clean_kv_attention._attend(query, key, value, keys, values, Scores(0.3))
    for head in range(4):
        kv_head = head * n_kv_heads // 4
        for pos in range(5):
            seen = torch.cat([keys[:, kv_head, :pos], key[:, kv_head, pos : pos + 1]], dim=1)
            read = torch.cat([values[:, kv_head, :pos], value[:, kv_head, pos : pos + 1]], dim=1)
            scores = 0.3 * torch.einsum("bd,bkd->bk", query[:, head, pos], seen)
            wanted = torch.einsum("bk,bkd->bd", scores.softmax(dim=-1), read)
            torch.testing.assert_close(found[:, head, pos], wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "scores",
    [
        Scores(0.3, window=2),
        Scores(0.3, softcap=0.7),
        Scores(0.3, sinks=torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)),
        Scores(0.3, window=3, softcap=0.7, sinks=torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64)),
        Scores(0.3),  # values of another width than keys
    ],
)
def test_windows_soft_caps_and_sinks(scores):
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(2, 4, 5, 8, dtype=torch.float64, generator=generator)
    key, keys = torch.randn(2, 2, 4, 5, 8, dtype=torch.float64, generator=generator)
    value, values = torch.randn(2, 2, 4, 5, 6, dtype=torch.float64, generator=generator)
    found = clean_kv_attention._attend(query, key, value, keys, values, scores)
    for head in range(4):
        for pos in range(5):
            first = 0 if scores.window is None else max(0, pos + 1 - scores.window)
            seen = torch.cat([keys[:, head, first:pos], key[:, head, pos : pos + 1]], dim=1)
            read = torch.cat([values[:, head, first:pos], value[:, head, pos : pos + 1]], dim=1)
            raw = 0.3 * torch.einsum("bd,bkd->bk", query[:, head, pos], seen)
            if scores.softcap:
                raw = scores.softcap * torch.tanh(raw / scores.softcap)
            total = raw.exp().sum(-1, keepdim=True)
            if scores.sinks is not None:
                total = total + scores.sinks[head].exp()
            wanted = torch.einsum("bk,bkd->bd", raw.exp() / total, read)
            torch.testing.assert_close(found[:, head, pos], wanted, rtol=0, atol=1e-12)
