-- Building block: every row, once for each population it belongs to.
--
-- Grain: run_id, ablation, population, layer, head, prompt_id, pos
-- Paper: section 3
--
-- Columns:
--   population VARCHAR: Rows used: 'all' measured positions; 'top2', the 2 % with the highest clean direct_effect (the
--     same rows for every ablation); 'top2_nobos', the same among positions after the first one

WITH populations AS (
    SELECT 'top2' AS population, true AS with_first
    UNION ALL
    SELECT 'top2_nobos' AS population, false AS with_first
),
top_rows AS (
    SELECT populations.population, repair_rows.*
    FROM repair_rows
    INNER JOIN top_cuts
        ON top_cuts.run_id = repair_rows.run_id
        AND top_cuts.layer = repair_rows.layer
        AND top_cuts.head = repair_rows.head
        AND repair_rows.direct_effect >= top_cuts.cut_effect
        AND (
            repair_rows.direct_effect > top_cuts.cut_effect
            OR (repair_rows.prompt_id, repair_rows.pos) <= (top_cuts.cut_prompt_id, top_cuts.cut_pos)
        )
    INNER JOIN populations ON populations.with_first = top_cuts.with_first
    WHERE top_cuts.top_percent = 2 AND (top_cuts.with_first OR repair_rows.pos > 0)
)
SELECT 'all' AS population, *
FROM repair_rows
UNION ALL
SELECT *
FROM top_rows
