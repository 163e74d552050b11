-- Building block: the kind of target token at each measured position: log-probability decile, position, class.
--
-- Grain: run_id, prompt_id, pos
-- Paper: none
--
-- The class depends on the target's text; the first rule that applies decides: newline has a line break anywhere;
-- other is a name in angle brackets, such as <|endoftext|>, or text that is not a complete character; word start is
-- blanks and then a letter; inner piece begins with a letter, without a blank; digit and punctuation (with symbols) go
-- by the first non-blank character; everything else, such as blanks alone, is other. A word after a line break or a
-- bracket is written without a blank, and so counts as an inner piece.
--
-- Columns:
--   logprob_decile TINYINT: Target log-probability decile among the run's positions, by clean_logprob; 1: the lowest,
--     10: the highest; ties in the order of prompt_id, pos
--   position_order TINYINT: Range of positions: 1: position 0, 2: 1-3, 3: 4-15, 4: 16-63, 5: 64-255, 6: 256-1023, 7:
--     from 1024 on
--   class_order TINYINT: Class of the target's text: 1: word start, 2: inner piece, 3: digit, 4: punctuation, 5:
--     newline, 6: other

SELECT
    run_id,
    prompt_id,
    pos,
    CAST(ntile(10) OVER (PARTITION BY run_id ORDER BY clean_logprob, prompt_id, pos) AS TINYINT) AS logprob_decile,
    CAST(
        CASE
            WHEN pos < 1 THEN 1
            WHEN pos < 4 THEN 2
            WHEN pos < 16 THEN 3
            WHEN pos < 64 THEN 4
            WHEN pos < 256 THEN 5
            WHEN pos < 1024 THEN 6
            ELSE 7
        END
        AS TINYINT
    ) AS position_order,
    CAST(
        CASE
            WHEN regexp_matches(target, '[\n\r]') THEN 5
            WHEN regexp_matches(target, '^<.+>$|\x{FFFD}') THEN 6
            WHEN regexp_matches(target, '^[\s\pZ]+\pL') THEN 1
            WHEN regexp_matches(target, '^[\pL\pM]') THEN 2
            WHEN regexp_matches(target, '^[\s\pZ]*\pN') THEN 3
            WHEN regexp_matches(target, '^[\s\pZ]*[\pP\pS]') THEN 4
            ELSE 6
        END
        AS TINYINT
    ) AS class_order
FROM tokens
