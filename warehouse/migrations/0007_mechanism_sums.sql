-- What errors of edges are made of, sums over the documents of a unit, and the changes of neurons in the order of their sign. Units
-- that earlier versions measured have none.

ALTER TABLE edge_sums ADD COLUMN n_clusters INTEGER;
ALTER TABLE edge_sums ADD COLUMN squared_rows DOUBLE PRECISION;
ALTER TABLE edge_sums ADD COLUMN rows_by_change DOUBLE PRECISION;
ALTER TABLE edge_sums ADD COLUMN squared_cluster_change DOUBLE PRECISION;

ALTER TABLE neuron_curves ADD COLUMN signed_exceed_50 INTEGER;
ALTER TABLE neuron_curves ADD COLUMN signed_exceed_10 INTEGER;
ALTER TABLE neuron_curves ADD COLUMN signed_exceed_5 INTEGER;
ALTER TABLE neuron_curves ADD COLUMN signed_exceed_2_5 INTEGER;
ALTER TABLE neuron_curves ADD COLUMN signed_exceed_1 INTEGER;
ALTER TABLE neuron_curves ADD COLUMN largest_repairs DOUBLE PRECISION;
ALTER TABLE neuron_curves ADD COLUMN change_shares DOUBLE PRECISION;
ALTER TABLE neuron_curves ADD COLUMN repair_shares DOUBLE PRECISION;

ALTER TABLE neuron_sums ADD COLUMN n_changed INTEGER;
