-- What people call a run. The option --name, which named a local model, is --series now: --name names the run.

ALTER TABLE runs ADD COLUMN run_name VARCHAR;
ALTER TABLE runs ADD COLUMN note VARCHAR;
ALTER TABLE runs ADD COLUMN tags VARCHAR[];

-- In a command as a shell takes it, text between quotes is a value: every second piece. A quote within a value is written '"'"'.
UPDATE runs
SET command = replace(
    array_to_string(
        list_transform(
            string_split(replace(command, '''"''"''', chr(1)), ''''),
            lambda piece, place: CASE WHEN place % 2 = 1 THEN replace(piece, ' --name ', ' --series ') ELSE piece END
        ),
        ''''
    ),
    chr(1),
    '''"''"'''
)
WHERE contains(command, ' --name ');
