"""What clustered errors of sums over rows are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ClusterGroup:
    """Prompts of a unit whose sums are kept together, by their places in it, with the document that each counts with.

    `document` is the one of all of them, where other units have prompts of it, too; None: documents that are all here.
    """

    document: int | None
    prompts: list[int]
    clusters: list[int]


@dataclass(frozen=True)
class ClusterSums:
    """Sums over rows, in float64 on the CPU, a group of prompts each, and what the error of the first sum is made of:
    clusters with rows, the sum of their squared rows, of rows * sum, and of the squared sum, each by cluster.
    """

    n_rows: Float[Tensor, "group ablated population"]
    sums: Float[Tensor, "group ablated population target sum"]
    n_clusters: Float[Tensor, "group ablated population"]
    squared_rows: Float[Tensor, "group ablated population"]
    rows_by_first: Float[Tensor, "group ablated population target"]
    squared_first: Float[Tensor, "group ablated population target"]


def group_prompts(clusters: Sequence[int], in_other_units: frozenset[int]) -> list[ClusterGroup]:
    """The prompts of a unit, where `clusters` has the document that each counts with: those that are in no other unit as one
    group, and a group for each of the others.
    """
    groups: dict[int | None, ClusterGroup] = {}
    for prompt, cluster in enumerate(clusters):
        document = cluster if cluster in in_other_units else None
        group = groups.setdefault(document, ClusterGroup(document, [], []))
        group.prompts.append(prompt)
        group.clusters.append(cluster)
    return list(groups.values())


def cluster_sums(
    prompt_rows: Float[Tensor, "ablated population prompt"],
    prompt_sums: Float[Tensor, "ablated population prompt target sum"],
    groups: Sequence[ClusterGroup],
) -> ClusterSums:
    """Sums over the rows of each group, of sums over each prompt's rows."""
    of_groups = [_of_group(prompt_rows, prompt_sums, group) for group in groups]
    return ClusterSums(*(torch.stack(values) for values in zip(*of_groups, strict=True)))


def _of_group(prompt_rows: Tensor, prompt_sums: Tensor, group: ClusterGroup) -> tuple[Tensor, ...]:
    sums = torch.zeros_like(prompt_sums[:, :, 0], dtype=torch.float64)
    n_rows, n_clusters, squared_rows = (torch.zeros(sums.shape[:2], dtype=torch.float64) for _ in range(3))
    rows_by_first, squared_first = (torch.zeros(sums.shape[:-1], dtype=torch.float64) for _ in range(2))
    by_cluster: dict[int, list[int]] = {}
    for prompt, cluster in zip(group.prompts, group.clusters, strict=True):
        by_cluster.setdefault(cluster, []).append(prompt)
    for mine in by_cluster.values():
        rows = prompt_rows[:, :, mine].double().sum(dim=-1)
        total = prompt_sums[:, :, mine].double().sum(dim=2)
        n_rows += rows
        sums += total
        n_clusters += rows > 0
        squared_rows += rows.square()
        rows_by_first += rows[..., None] * total[..., 0]
        squared_first += total[..., 0].square()
    return n_rows, sums, n_clusters, squared_rows, rows_by_first, squared_first
