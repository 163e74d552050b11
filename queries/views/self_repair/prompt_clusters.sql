-- Building block: the document with which a prompt counts in errors and intervals, where sums are kept by prompt.
--
-- Grain: run_id, prompt_id
-- Paper: none
-- Kept: mart
--
-- Its own document, unless more than half of its rows repeat earlier prompts' (repeated_rows): then the one that most of
-- these rows belong to.
--
-- Columns:
--   cluster_id INTEGER: The document that the prompt counts with: prompts.document_id

WITH sizes AS (
    SELECT run_id, prompt_id, count(*) AS n_positions
    FROM tokens
    GROUP BY run_id, prompt_id
),
repeats AS (
    SELECT run_id, prompt_id, count(*) AS n_repeated, mode(cluster_id ORDER BY pos) AS cluster_id
    FROM repeated_rows
    GROUP BY run_id, prompt_id
)
SELECT
    run_id,
    prompt_id,
    CASE WHEN 2 * n_repeated > n_positions THEN repeats.cluster_id ELSE document_id END AS cluster_id
FROM prompts
LEFT JOIN sizes USING (run_id, prompt_id)
LEFT JOIN repeats USING (run_id, prompt_id)
ORDER BY run_id, prompt_id
