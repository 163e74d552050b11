-- What a run was checked by. Earlier versions went through TransformerBridge in every one.

ALTER TABLE runs ADD COLUMN checks VARCHAR;
