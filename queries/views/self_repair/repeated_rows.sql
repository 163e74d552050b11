-- Building block: positions whose whole prefix and target an earlier prompt of the run has, too.
--
-- Grain: run_id, prompt_id, pos
-- Paper: none
-- Kept: mart
--
-- What the clean model computes there is the same, so that both rows are one observation: in errors and intervals, the later
-- one counts with the earlier one's document (cluster_sums). Under resample ablation the two differ by their partners alone.
--
-- Columns:
--   repeats_prompt_id INTEGER: The first prompt of the run with this prefix and this target: prompts.prompt_id
--   cluster_id INTEGER: The document of that prompt, with which the row counts: prompts.document_id

WITH openings AS (
    SELECT
        run_id,
        prompt_id,
        token_ids,
        -- most prompts share no more than their first tokens with another one
        count(*) OVER (PARTITION BY run_id, token_ids[:3]) > 1 AS may_repeat
    FROM prompts
),
prefixes AS (
    SELECT
        run_id,
        prompt_id,
        pos,
        min(prompt_id) OVER (
            PARTITION BY run_id, pos, target_id, foil_id, token_id, hash(token_ids[: pos + 1])
        ) AS repeats_prompt_id
    FROM tokens
    INNER JOIN openings USING (run_id, prompt_id)
    WHERE pos < 2 OR may_repeat
)
SELECT prefixes.run_id, prefixes.prompt_id, pos, repeats_prompt_id, document_id AS cluster_id
FROM prefixes
INNER JOIN prompts ON prompts.run_id = prefixes.run_id AND prompts.prompt_id = repeats_prompt_id
WHERE repeats_prompt_id < prefixes.prompt_id
ORDER BY prefixes.run_id, prefixes.prompt_id, pos
