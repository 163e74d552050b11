-- Building block: the rows around each cut of a head, which say how sharp it is (cluster_sums, choice_sums).
--
-- Grain: run_id, layer, head, with_first, top_percent
-- Paper: section 3 (top 2 % of tokens by direct effect)
--
-- They lie between the next smaller and the next larger top: for the top 2 %, between 1.4 and 2.6 %, and for the top 10 %, between
-- 5 and 20 %. Above the smallest cut they begin with the first row. Tops of 1.4 and 2.6 % have no row: they are there for this alone.
--
-- Columns:
--   top_share DOUBLE: Rows in the top, as a share of all [ratio]
--   number_before TINYINT: cut_number of the next smaller top; 0: none
--   number_after TINYINT: cut_number of the next larger top; 127: none
--   is_one_row BOOLEAN: True: both have the same rows, and so there are none between them; the top's stand for these

SELECT
    run_id,
    layer,
    head,
    with_first,
    top_percent,
    n_top / max(n_top) OVER (PARTITION BY run_id, layer, head, with_first) AS top_share,
    cut_effect,
    cut_number,
    lag(cut_number, 1, 0::TINYINT) OVER tops AS number_before,
    lead(cut_number, 1, 127::TINYINT) OVER tops AS number_after,
    coalesce(lag(n_top) OVER tops = coalesce(lead(n_top) OVER tops, n_top), false) AS is_one_row
FROM top_cuts
WINDOW tops AS (PARTITION BY run_id, layer, head, with_first ORDER BY top_percent)
QUALIFY top_percent NOT IN (1.4, 2.6)
