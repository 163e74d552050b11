-- Errors of edges and of re-routing by document, however a run is cut into units: what a document adds that lies in several of them
-- has a row of its own. Earlier versions had one row for all documents of a unit.

ALTER TABLE edge_sums ADD COLUMN document_id INTEGER;
ALTER TABLE routing_sums ADD COLUMN document_id INTEGER;
ALTER TABLE routing_sums ALTER COLUMN n_clusters DROP NOT NULL;
ALTER TABLE routing_sums ALTER COLUMN squared_rows DROP NOT NULL;
ALTER TABLE routing_sums ALTER COLUMN rows_by_rerouted DROP NOT NULL;
ALTER TABLE routing_sums ALTER COLUMN squared_cluster_rerouted DROP NOT NULL;
