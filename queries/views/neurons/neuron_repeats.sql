-- Building block: whether it is the same neurons that change most in row after row, for each ablated head and MLP.
--
-- Grain: run_id, ablation, population, layer, head, mlp_layer
-- Paper: section 5 (sparse neurons)
-- Kept: mart
--
-- `neuron_consistency` says how each number is defined.
--
-- Columns:
--   n_rows BIGINT: Rows of the population in which a neuron changes [rows]
--   neurons_first BIGINT: Different neurons that change most in one row or more [neurons]
--   neurons_first_4 BIGINT: Different neurons among the four that change most [neurons]
--   neurons_first_16 BIGINT: Different neurons among the 16 that change most [neurons]
--   top_neuron INTEGER: The neuron that is most often the one that changes most
--   top_neuron_share DOUBLE: Rows in which top_neuron changes most, as a share of n_rows [ratio]
--   change_share_10 DOUBLE: |change| of the ten most frequent neurons as a share of all that is stored [ratio]
--   half_overlap DOUBLE: Share of the ten most frequent neurons of the prompts with an even prompt_id that are among the
--     ten of the others; NULL: one half has no rows [ratio]

WITH places AS (
    SELECT
        *,
        sum_absolute_change - sum_even_absolute_change AS sum_odd_absolute_change,
        row_number() OVER (of_cell ORDER BY n_first DESC, sum_absolute_change DESC, neuron) AS first_place,
        row_number() OVER (of_cell ORDER BY n_stored DESC, sum_absolute_change DESC, neuron) AS place,
        row_number() OVER (of_cell ORDER BY n_even DESC, sum_even_absolute_change DESC, neuron) AS even_place,
        row_number() OVER (
            of_cell ORDER BY n_stored - n_even DESC, round(sum_odd_absolute_change, 4) DESC, neuron
        ) AS odd_place
    FROM neuron_uses
    WINDOW of_cell AS (PARTITION BY run_id, ablation, population, layer, head, mlp_layer)
)
SELECT
    run_id,
    ablation,
    population,
    layer,
    head,
    mlp_layer,
    CAST(sum(n_first) AS BIGINT) AS n_rows,
    count(*) FILTER (n_first > 0) AS neurons_first,
    count(*) FILTER (n_first_4 > 0) AS neurons_first_4,
    count(*) AS neurons_first_16,
    min(neuron) FILTER (first_place = 1) AS top_neuron,
    max(n_first) / sum(n_first) AS top_neuron_share,
    sum(sum_absolute_change) FILTER (place <= 10) / nullif(sum(sum_absolute_change), 0) AS change_share_10,
    count(*) FILTER (even_place <= 10 AND odd_place <= 10 AND n_even > 0 AND n_stored > n_even)
        / nullif(least(10, count(*) FILTER (n_even > 0), count(*) FILTER (n_stored > n_even)), 0) AS half_overlap
FROM places
GROUP BY run_id, ablation, population, layer, head, mlp_layer
ORDER BY run_id, ablation, population, layer, head, mlp_layer
