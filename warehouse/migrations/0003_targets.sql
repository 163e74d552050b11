-- What the measured logit is of: the next token as before, or an answer, above a foil or not.

ALTER TABLE runs ADD COLUMN logit_of VARCHAR;
COMMENT ON COLUMN runs.logit_of IS 'Whose logit every effect is on: next_token at every position; answer or answer_minus_foil at the last one alone; NULL: next_token';

ALTER TABLE tokens ADD COLUMN foil_id INTEGER;
ALTER TABLE tokens ADD COLUMN foil VARCHAR;
COMMENT ON COLUMN tokens.foil_id IS 'Token whose logit is subtracted from the target''s; NULL: none, the mean of all logits is [vocabulary id]';
COMMENT ON COLUMN tokens.foil IS 'That token, as text; NULL: none';
COMMENT ON COLUMN tokens.clean_logit IS 'Target''s logit with nothing ablated, above the mean of all logits here, or above the foil''s [logits]';

COMMENT ON COLUMN layer_guess.logit IS 'Target''s logit read there, above the mean of all logits, or above the foil''s [logits]';
