-- Building block: which rows are the top 2 % of each head, the population of the paper's main figures.
--
-- Grain: run_id, layer, head, prompt_id, pos
-- Paper: section 3 (top 2 % of tokens by direct effect)
--
-- Per run and head, the max(1, floor(0.02 n)) rows with the highest clean direct_effect of all n measured positions,
-- the first one of a prompt included; ties go to the lower prompt_id, then the lower pos. The clean direct effect knows
-- of no ablation, so one ablation's rows choose for all. A run whose parts are not all loaded has the top of what is
-- there. A percentile finds the few candidates, so that only these are sorted.
--
-- Columns:
--   effect_rank BIGINT: Place of the row among its head's by direct_effect; 1: the highest [rank]

WITH chosen_ablations AS NOT MATERIALIZED (
    SELECT run_id, min(ablation) AS ablation
    FROM measurements
    GROUP BY run_id
),
clean_rows AS NOT MATERIALIZED (
    SELECT run_id, layer, head, prompt_id, pos, direct_effect
    FROM measurements
    INNER JOIN chosen_ablations USING (run_id, ablation)
),
head_cuts AS NOT MATERIALIZED (
    SELECT
        run_id,
        layer,
        head,
        greatest(1, count(*) // 50) AS n_top,
        quantile_disc(direct_effect, 0.98) AS candidate_effect
    FROM clean_rows
    GROUP BY run_id, layer, head
),
ranked_candidates AS (
    SELECT
        clean_rows.*,
        head_cuts.n_top,
        row_number() OVER (
            PARTITION BY run_id, layer, head
            ORDER BY clean_rows.direct_effect DESC, clean_rows.prompt_id, clean_rows.pos
        ) AS effect_rank
    FROM clean_rows
    INNER JOIN head_cuts USING (run_id, layer, head)
    WHERE clean_rows.direct_effect >= head_cuts.candidate_effect
)
SELECT
    run_id,
    layer,
    head,
    prompt_id,
    pos,
    effect_rank
FROM ranked_candidates
WHERE effect_rank <= n_top
