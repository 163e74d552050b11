-- Building block: where the top of each head ends: the last row, by clean direct effect, of its strongest 0.5 to 100 %.
--
-- Grain: run_id, layer, head, with_first, top_percent
-- Paper: section 3 (top 2 % of tokens by direct effect)
-- Kept: mart
--
-- A head's top p % are its max(1, floor(p % of n)) rows with the highest direct_effect of all n measured positions;
-- ties go to the lower prompt_id, then the lower pos. The clean direct effect is the same under every ablation, so one
-- ablation's rows decide for all (those of effect_counts). A row is in the top if its direct_effect is above
-- cut_effect, or equals it and the row does not come after (cut_prompt_id, cut_pos). A run whose parts are not all
-- loaded has the top of what is there. The rows between 1.4 and 2.6 % say how sharp the cut at 2 % is (cluster_sums).
--
-- Columns:
--   with_first BOOLEAN: True: of all positions; False: of those after the first one of a prompt
--   top_percent DOUBLE: Share of the head's rows: 100, 50, 20, 10, 5, 2.6, 2, 1.4, 1 or 0.5 [%]
--   n_top BIGINT: Rows in the top [rows]
--   cut_effect FLOAT: direct_effect of the last row in the top [logits]
--   cut_prompt_id INTEGER: Prompt of the last row in the top: prompts.prompt_id
--   cut_pos SMALLINT: Position of the last row in the top
--   cut_number TINYINT: Place of the cut among the head's from the highest down, 1 to 18; 19: that of all rows, in both
--     variants

WITH variants AS (
    SELECT unnest([true, false]) AS with_first
),
counts AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        with_first,
        value,
        CASE WHEN with_first THEN n_rows ELSE n_rows - n_first END AS n_tied
    FROM effect_counts
    CROSS JOIN variants
    WHERE measure = 'direct_effect' AND (with_first OR n_rows > n_first)
),
places AS (
    SELECT
        *,
        -- as DOUBLE, in which counts are exact, too, and running sums take half the time
        CAST(sum(n_tied) OVER (PARTITION BY run_id, layer, head, with_first) AS BIGINT) AS n_all,
        CAST(
            sum(CAST(n_tied AS DOUBLE)) OVER (PARTITION BY run_id, layer, head, with_first ORDER BY value DESC) AS BIGINT
        ) AS n_down_to
    FROM counts
),
shares AS (
    SELECT unnest([100, 50, 20, 10, 5, 2.6, 2, 1.4, 1, 0.5]) AS top_percent
),
tops AS (
    SELECT
        *,
        greatest(1, n_all * CAST(top_percent * 10 AS INTEGER) // 1000) AS n_top
    FROM places
    CROSS JOIN shares
),
cuts AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        with_first,
        CAST(top_percent AS DOUBLE) AS top_percent,
        n_top,
        value AS cut_effect,
        n_top - (n_down_to - n_tied) AS n_tied
    FROM tops
    WHERE n_top BETWEEN n_down_to - n_tied + 1 AND n_down_to
),
tied_rows AS (
    SELECT
        cuts.*,
        measurements.prompt_id,
        measurements.pos,
        row_number() OVER (
            PARTITION BY cuts.run_id, cuts.layer, cuts.head, cuts.with_first, cuts.top_percent
            ORDER BY measurements.prompt_id, measurements.pos
        ) AS tie_place
    FROM cuts
    INNER JOIN measurements
        ON measurements.run_id = cuts.run_id
        AND measurements.ablation = cuts.ablation
        AND measurements.layer = cuts.layer
        AND measurements.head = cuts.head
        AND measurements.direct_effect = cuts.cut_effect
        AND (cuts.with_first OR measurements.pos > 0)
)
SELECT
    run_id,
    layer,
    head,
    with_first,
    top_percent,
    CAST(n_top AS BIGINT) AS n_top,
    cut_effect,
    prompt_id AS cut_prompt_id,
    pos AS cut_pos,
    CAST(
        CASE
            WHEN top_percent = 100 THEN 19
            ELSE row_number() OVER (
                PARTITION BY run_id, layer, head, top_percent = 100
                ORDER BY cut_effect DESC, prompt_id, pos, with_first, top_percent
            )
        END
        AS TINYINT
    ) AS cut_number
FROM tied_rows
WHERE tie_place = n_tied
