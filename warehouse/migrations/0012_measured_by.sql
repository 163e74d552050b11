-- Who measured a unit, and in how many seconds. Earlier versions did not keep it.

ALTER TABLE units ADD COLUMN host VARCHAR;
ALTER TABLE units ADD COLUMN device VARCHAR;
ALTER TABLE units ADD COLUMN worker VARCHAR;
ALTER TABLE units ADD COLUMN seconds DOUBLE;
