-- Mixtures of experts: which experts MLPs choose when a head is ablated, and what each of them adds to the repair.

CREATE TABLE routing_sums (
    run_id INTEGER NOT NULL,
    unit INTEGER NOT NULL,
    ablation ablation_kind NOT NULL,
    layer SMALLINT NOT NULL,
    head SMALLINT NOT NULL,
    population edge_population NOT NULL,
    mlp_layer SMALLINT NOT NULL,
    n_experts SMALLINT NOT NULL,
    n_rows INTEGER NOT NULL,
    rerouted_rows INTEGER NOT NULL,
    replaced_experts INTEGER NOT NULL,
    chosen_experts INTEGER NOT NULL,
    weight_distance DOUBLE PRECISION NOT NULL,
    change DOUBLE PRECISION NOT NULL,
    shared_change DOUBLE PRECISION NOT NULL,
    n_clusters INTEGER NOT NULL,
    squared_rows DOUBLE PRECISION NOT NULL,
    rows_by_rerouted DOUBLE PRECISION NOT NULL,
    squared_cluster_rerouted DOUBLE PRECISION NOT NULL
);

CREATE TABLE expert_sums (
    run_id INTEGER NOT NULL,
    unit INTEGER NOT NULL,
    ablation ablation_kind NOT NULL,
    layer SMALLINT NOT NULL,
    head SMALLINT NOT NULL,
    population edge_population NOT NULL,
    mlp_layer SMALLINT NOT NULL,
    expert SMALLINT NOT NULL,
    clean_rows INTEGER NOT NULL,
    ablated_rows INTEGER NOT NULL,
    change DOUBLE PRECISION NOT NULL,
    kept_change DOUBLE PRECISION NOT NULL
);
