-- Building block: each head's top 2 % of rows by clean direct effect, with their rank.
--
-- Grain: run_id, ablation, layer, head, effect_rank
-- Paper: section 3 (top 2 % of tokens by direct effect)
-- Kept: mart
--
-- The same rows for every ablation, since the clean direct effect is the same under each. Stored in the order of the
-- heads, so that one head's rows are found without reading the others.
--
-- Columns:
--   effect_rank INTEGER: Place of the row among its head's by direct_effect; 1: the highest; ties by prompt_id, then pos

WITH top_rows AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY run_id, ablation, layer, head
            ORDER BY direct_effect DESC, prompt_id, pos
        ) AS effect_rank
    FROM population_rows
    WHERE population = 'top2'
)
SELECT * EXCLUDE (population) REPLACE (CAST(effect_rank AS INTEGER) AS effect_rank)
FROM top_rows
ORDER BY run_id, ablation, layer, head, effect_rank
