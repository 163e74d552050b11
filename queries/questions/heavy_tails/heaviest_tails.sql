-- Which heads matter in few rows only? Those whose top rows carry the largest share of the whole.
--
-- Grain: run_id, layer, head
-- Paper: sections 3 and 5 (heavy-tailed importance)
--
-- Parameters:
--   model, run_id, ablation
--   measure direct_effect|logit_change|self_repair|abs_direct_effect|abs_logit_change|abs_self_repair =
--     abs_direct_effect: Which number of a row; abs_: its absolute value
--   at_most

SELECT
    run_id,
    model,
    label,
    share_top_2,
    share_top_0_1,
    gini,
    hill_2,
    hill_2_se,
    excess_kurtosis,
    quantile_50,
    quantile_98,
    quantile_99_9,
    n_rows,
    n_clusters,
    layer,
    head
FROM head_tail
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND measure = $measure
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY share_top_2 DESC NULLS LAST, layer, head) <= $at_most
ORDER BY run_id, share_top_2 DESC NULLS LAST, layer, head
