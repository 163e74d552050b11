-- Who measured a unit, and in how many seconds; and how a run is cut into units. Earlier versions did not keep it.

ALTER TABLE units ADD COLUMN host VARCHAR;
ALTER TABLE units ADD COLUMN device VARCHAR;
ALTER TABLE units ADD COLUMN worker VARCHAR;
ALTER TABLE units ADD COLUMN seconds DOUBLE;
ALTER TABLE units ADD COLUMN document_id INTEGER;
ALTER TABLE runs ADD COLUMN rows_in_unit INTEGER;
