"""What clustered errors of sums over rows are made of."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def cluster_moments(
    prompt_rows: Float[Tensor, "ablated population prompt"],
    prompt_sums: Float[Tensor, "ablated population prompt target"],
    clusters: Sequence[int],
) -> tuple[Float[Tensor, "ablated population"], Float[Tensor, "ablated population"], Float[Tensor, "..."]]:
    """Of sums over each prompt's rows, where `clusters` has a number for each prompt, the same for those of one document.

    Clusters with rows; the sum of their squared rows; and, [moment ablated population target], the sums of rows * sum and of
    sum^2 of each cluster's sums.
    """
    n_clusters = torch.zeros(prompt_rows.shape[:2], dtype=torch.float64)
    squared_rows = torch.zeros_like(n_clusters)
    moments = torch.zeros(2, *prompt_sums[:, :, 0].shape, dtype=torch.float64)
    of_prompt = torch.tensor(clusters)
    for cluster in of_prompt.unique():
        mine = of_prompt == cluster
        n_rows = prompt_rows[:, :, mine].sum(dim=-1)
        total = prompt_sums[:, :, mine].double().sum(dim=2)
        n_clusters += n_rows > 0
        squared_rows += n_rows.square()
        moments[0] += n_rows[..., None] * total
        moments[1] += total.square()
    return n_clusters, squared_rows, moments
