-- Building block: how far the parts of a head's stored rows miss its self-repair, and how many rows there are.
--
-- Grain: run_id, ablation, layer, head
-- Paper: section 2 (definitions)
-- Kept: mart
--
-- Columns:
--   n_rows BIGINT: Rows of the head [rows]
--   undefined_ratios BIGINT: Rows with direct_effect = 0, which have no self_repair / direct_effect [rows]
--   stored_identity_error DOUBLE: Largest |self_repair - sum of the repair_ columns| of the stored rows; up to 3e-4 of it is rounding [logits]

SELECT
    run_id,
    ablation,
    layer,
    head,
    CAST(sum(n_rows) AS BIGINT) AS n_rows,
    CAST(sum(undefined_ratios) AS BIGINT) AS undefined_ratios,
    round(max(stored_identity_error), 4) AS stored_identity_error,
    max(stored_identity_excess) AS stored_identity_excess
FROM stretch_sums
GROUP BY run_id, ablation, layer, head
