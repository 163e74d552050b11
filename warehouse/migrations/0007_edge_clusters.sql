-- What errors of edges are made of: sums over the documents of a unit. Units that earlier versions measured have none.

ALTER TABLE edge_sums ADD COLUMN n_clusters INTEGER;
ALTER TABLE edge_sums ADD COLUMN squared_rows DOUBLE PRECISION;
ALTER TABLE edge_sums ADD COLUMN rows_by_change DOUBLE PRECISION;
ALTER TABLE edge_sums ADD COLUMN squared_cluster_change DOUBLE PRECISION;
