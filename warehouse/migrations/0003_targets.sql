-- What the measured logit is of: the next token as before, or an answer, above a foil or not.

ALTER TABLE runs ADD COLUMN logit_of VARCHAR;

ALTER TABLE tokens ADD COLUMN foil_id INTEGER;
ALTER TABLE tokens ADD COLUMN foil VARCHAR;
