-- How self-repair / direct effect depends on its definition: which rows, clipped or not, which average.
--
-- Grain: run_id, ablation, level, layer, head, part, with_first, top_percent, average, clipped
-- Headline: label, part, fraction, fraction_low, fraction_high, top_percent, with_first, average, clipped, n_clusters
-- Paper: section 3 (Figure 1 is top_percent 2, with_first, mean of ratios, clipped)
--
-- A mean of ratios averages the part / direct_effect of each row; rows with direct_effect = 0 have no ratio and are
-- left out of it. A ratio of means divides the sum of the part by the sum of direct_effect. Clipping to [0, 1] is of
-- each row's ratio before the mean, or the ratio of means itself. A model pools the rows of its heads, each head's own
-- top. Failed runs are left out.
--
-- fraction_low and fraction_high are the ends of the 95 % interval, clustered by document, each top with the correction for its
-- own cut (cluster_sums); a ratio of means has Fieller's, clipped where it is. A mean of ratios that are not clipped has
-- none where the top reaches down to direct effects near 0 (less than 5 % of that at the 0.5 % cut) and below: single rows decide
-- it. Of fewer than 12 clusters they are a rough guide. Those that head_repair and model_repair do not
-- have are of prompt_clusters: from 128 of these and 25,000 positions on, estimated from every n-th (sampled_clusters).
--
-- Columns:
--   n_clusters BIGINT: Documents or prompts that the interval is clustered by, all of the run's [clusters]

WITH ways AS (
    SELECT * FROM fraction_choices
    UNION ALL
    SELECT
        * REPLACE (
            true AS clipped,
            clipped(fraction) AS fraction,
            clipped(fraction_low) AS fraction_low,
            clipped(fraction_high) AS fraction_high
        )
    FROM fraction_choices
    WHERE average = 'ratio of means'
)
SELECT
    run_id,
    models.name AS model,
    ablation,
    level,
    layer,
    head,
    head_label(layer, head) AS label,
    part,
    with_first,
    top_percent,
    average,
    clipped,
    fraction,
    fraction_low,
    fraction_high,
    is_unbounded,
    n_clusters,
    n_rows,
    undefined_ratios
FROM ways
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
