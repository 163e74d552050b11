-- What people call a run. The option --name, which named a local model, is --series now: --name names the run.

ALTER TABLE runs ADD COLUMN run_name VARCHAR;
ALTER TABLE runs ADD COLUMN note VARCHAR;
ALTER TABLE runs ADD COLUMN tags VARCHAR[];
UPDATE runs SET command = replace(command, ' --name ', ' --series ') WHERE contains(command, ' --name ');
