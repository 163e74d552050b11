-- Building block: which of several runs of the same thing stands for it: a complete one, of the most heads, the newest.
--
-- Grain: run_id
-- Paper: none
--
-- The one rule by which views choose among runs, whatever they take for the same thing (co_ablation: weights, prompts,
-- precision and ablation; repair_over_training: a checkpoint of a series). A run that failed or is still loading stands
-- behind every complete one. The newest was started last: numbers do not tell, where files were merged.
--
-- Columns:
--   run_id INTEGER: The run: runs.run_id
--   is_complete BOOLEAN: True: all its units are loaded, and its cross-check agrees
--   preference BIGINT: Place among all runs of the file; 1 is preferred to all others

SELECT
    run_id,
    status = 'complete' AS is_complete,
    row_number() OVER (ORDER BY status = 'complete' DESC, len(selected_heads) DESC, started_at DESC, run_id DESC) AS preference
FROM runs
