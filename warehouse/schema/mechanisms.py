"""Which components compensate: heads and MLPs (edges), and the neurons and experts of the MLPs."""

import sqlalchemy as sa

from selfrepair.warehouse.schema.base import (
    ABLATION,
    HEAD,
    LAYER,
    MLP_LAYER,
    NEURON_POPULATION,
    POS,
    PROMPT,
    RUN,
    UNIT,
    boolean,
    column,
    double,
    edge_population,
    effect,
    integer,
    metadata,
    small,
    target_kind,
)
from selfrepair.warehouse.schema.names import CHANGE_SHARES, NEURONS_KEPT, NEURONS_RANKED

neuron_changes = sa.Table(
    "neuron_changes",
    metadata,
    column(*RUN),
    column(*ABLATION),
    column(*PROMPT),
    column(*POS),
    column(*LAYER),
    column(*HEAD),
    column(*MLP_LAYER),
    column("neuron", integer, "Index of the neuron in its MLP, from 0"),
    column(
        "clean_effect",
        effect,
        "Direct effect of the neuron on the target's logit in the clean run; < 0: it erases [logits]",
    ),
    column(
        "ablated_effect",
        effect,
        "The same with the head ablated, at the clean scale; above clean_effect where that is < 0: anti-erasure [logits]",
    ),
    column("rank", small, "Rank of the neuron in its MLP by |ablated_effect - clean_effect|; 1: the largest change"),
    column("in_top2", boolean, "True: the row is in the head's top 2 % by direct effect"),
    column(
        "in_top2_nobos",
        boolean,
        "True: the row is in the top 2 % of those after position 0; False, too, where the version that measured it did not "
        "read these",
    ),
    sa.CheckConstraint("pos >= 0"),
    sa.CheckConstraint("rank >= 1"),
    comment=(
        f"The {NEURONS_KEPT} neurons that change most, per ablation, ablated head, row of the head's top 2 % by direct "
        "effect, of all rows or of those after position 0, and MLP; those that change by less than half of 1e-4 are left "
        "out. A row in both tops is stored once. Effects are rounded to 1e-4."
    ),
)

neuron_curves = sa.Table(
    "neuron_curves",
    metadata,
    column(*RUN),
    column(*UNIT),
    column(*ABLATION),
    column(*LAYER),
    column(*HEAD),
    column(*MLP_LAYER),
    column(
        "nth",
        small,
        f"Rank of the neuron's change among those of the row in this MLP by size; 1: the largest, up to {NEURONS_RANKED}",
    ),
    *(
        column(name, integer, f"Rows whose nth largest |change| exceeds {share * 100:g} % of the direct effect [rows]")
        for name, share in CHANGE_SHARES.items()
    ),
    column("largest_changes", double, "Sum over rows of the nth largest |change| [logits]"),
    *(
        column(
            f"signed_{name}",
            integer,
            f"Rows whose nth highest change, with its sign, exceeds {share * 100:g} % of the direct effect; NULL: not kept by "
            "the version that measured it [rows]",
            null=True,
        )
        for name, share in CHANGE_SHARES.items()
    ),
    column("largest_repairs", double, "Sum over rows of the nth highest change, with its sign [logits]", null=True),
    column(
        "change_shares",
        double,
        "Sum over rows of the nth largest |change| / the row's sum of |change| [ratio]",
        null=True,
    ),
    column(
        "repair_shares",
        double,
        "Sum over rows of the nth highest change, where above 0, / the row's sum of changes above 0 [ratio]",
        null=True,
    ),
    column(*NEURON_POPULATION),
    sa.CheckConstraint("nth >= 1"),
    comment=(
        "Over all neurons: on how many neurons the change is concentrated in a head's top 2 % rows by direct effect, of "
        "all rows or of those after position 0, summed over a unit. Not rounded."
    ),
)

neuron_sums = sa.Table(
    "neuron_sums",
    metadata,
    column(*RUN),
    column(*UNIT),
    column(*ABLATION),
    column(*LAYER),
    column(*HEAD),
    column(*MLP_LAYER),
    column("n_rows", integer, "Rows of the population in the unit [rows]"),
    column("direct_effect", double, "Sum over rows of the head's direct effect [logits]"),
    column("change", double, "Sum over rows and neurons of the change in direct effect [logits]"),
    column("absolute_change", double, "Sum over rows and neurons of |change| [logits]"),
    column("positive_change", double, "Sum over rows and neurons of the changes above 0 [logits]"),
    column(
        "anti_erasure",
        double,
        "Sum over rows and neurons of the changes above 0 of neurons that erase (clean effect < 0) [logits]",
    ),
    column(
        "n_changed",
        integer,
        "Rows in which a neuron changes by half of 1e-4 or more; NULL: not kept by the version that measured it [rows]",
        null=True,
    ),
    column(*NEURON_POPULATION),
    comment=(
        "Over all neurons: how an MLP's direct effect changes in a head's top 2 % rows by direct effect, of all rows or "
        "of those after position 0, summed over a unit. Not rounded."
    ),
)

ONE_DOCUMENT = (
    "document_id",
    integer,
    "The document that the row is of, which other units have rows of, too: prompts.document_id; NULL: of the unit's others",
)

edge_sums = sa.Table(
    "edge_sums",
    metadata,
    column(*RUN),
    column(*UNIT),
    column(*ABLATION),
    column(*LAYER),
    column(*HEAD),
    column("population", edge_population, "Rows used: all, or top2 (the head's top 2 % by direct effect)"),
    column("target_kind", target_kind, "Component that changed: a later head, or an MLP of the same or a later layer"),
    column("target_layer", small, "Layer of the component that changed, from 0"),
    column("target_head", small, "Index of the head that changed, from 0; NULL: an MLP", null=True),
    column("n_rows", integer, "Rows used [rows]"),
    column(
        "change", double, "Sum over rows of the change in the component's direct effect, at the clean scale [logits]"
    ),
    column("squared_change", double, "Sum over rows of its square [logits^2]"),
    column(
        "n_clusters",
        integer,
        "Documents with such rows that the unit has whole; NULL: one (document_id), or not kept by the version that measured "
        "it [documents]",
        null=True,
    ),
    column("squared_rows", double, "Sum over these documents of the square of their rows [rows^2]", null=True),
    column(
        "rows_by_change",
        double,
        "Sum over these documents of their rows times their sum of the change [logits]",
        null=True,
    ),
    column(
        "squared_cluster_change",
        double,
        "Sum over these documents of the square of the sum of the change [logits^2]",
        null=True,
    ),
    column(*ONE_DOCUMENT, null=True),
    comment=(
        "How ablating a head changes the direct effect of each later head, and of the same layer's and later MLPs, summed "
        "over the documents that a unit has whole, and over each of its other documents. Not rounded."
    ),
)

EXPERT_POPULATION = ("population", edge_population, "Rows used: all, or top2 (the head's top 2 % by direct effect)")

routing_sums = sa.Table(
    "routing_sums",
    metadata,
    column(*RUN),
    column(*UNIT),
    column(*ABLATION),
    column(*LAYER),
    column(*HEAD),
    column(*EXPERT_POPULATION),
    column(*MLP_LAYER),
    column("n_experts", small, "Routed experts of the MLP [experts]"),
    column("n_rows", integer, "Rows used [rows]"),
    column("rerouted_rows", integer, "Rows in which other experts are chosen than in the clean run [rows]"),
    column(
        "replaced_experts", integer, "Sum over rows of the experts that are chosen in the clean run alone [experts]"
    ),
    column("chosen_experts", integer, "Sum over rows of the experts that are chosen in the clean run [experts]"),
    column(
        "weight_distance",
        double,
        "Sum over rows of half of the experts' |change in routing weight|, weights as shares of a row's [ratio]",
    ),
    column("change", double, "Sum over rows of the change in the MLP's direct effect, at the clean scale [logits]"),
    column(
        "shared_change",
        double,
        "The part of it that is always on: shared experts, and what else in the MLP does not depend on the routing [logits]",
    ),
    column(
        "n_clusters",
        integer,
        "Documents with such rows that the unit has whole; NULL: one (document_id) [documents]",
        null=True,
    ),
    column("squared_rows", double, "Sum over these documents of the square of their rows [rows^2]", null=True),
    column(
        "rows_by_rerouted",
        double,
        "Sum over these documents of their rows times their rerouted_rows [rows^2]",
        null=True,
    ),
    column(
        "squared_cluster_rerouted",
        double,
        "Sum over these documents of the square of their rerouted_rows [rows^2]",
        null=True,
    ),
    column(*ONE_DOCUMENT, null=True),
    comment=(
        "How ablating a head changes which experts an MLP of the same or a later layer chooses, summed over the documents that "
        "a unit has whole, and over each of its other documents. MLPs without routed experts have no rows. Not rounded."
    ),
)

expert_sums = sa.Table(
    "expert_sums",
    metadata,
    column(*RUN),
    column(*UNIT),
    column(*ABLATION),
    column(*LAYER),
    column(*HEAD),
    column(*EXPERT_POPULATION),
    column(*MLP_LAYER),
    column("expert", small, "Index of the expert in its MLP, from 0"),
    column("clean_rows", integer, "Rows in which it is chosen in the clean run [rows]"),
    column("ablated_rows", integer, "Rows in which it is chosen with the head ablated [rows]"),
    column(
        "change",
        double,
        "Sum over rows of the change in its direct effect, which is 0 where it is not chosen, at the clean scale [logits]",
    ),
    column("kept_change", double, "The same over the rows in which it is chosen in both [logits]"),
    comment=(
        "What each routed expert of an MLP adds to its repair of an ablated head, summed over a unit. Experts that are "
        "chosen in no row of the unit have none. Not rounded."
    ),
)
