-- Neurons in the top 2 % of the rows after position 0, too. What there is was measured in the top 2 % of all rows alone.

CREATE TYPE neuron_population AS ENUM ('top2', 'top2_nobos');

ALTER TABLE neuron_changes ADD COLUMN in_top2 BOOLEAN DEFAULT true;
ALTER TABLE neuron_changes ADD COLUMN in_top2_nobos BOOLEAN DEFAULT false;
ALTER TABLE neuron_curves ADD COLUMN population neuron_population DEFAULT 'top2';
ALTER TABLE neuron_sums ADD COLUMN population neuron_population DEFAULT 'top2';

ALTER TABLE neuron_changes ALTER COLUMN in_top2 DROP DEFAULT;
ALTER TABLE neuron_changes ALTER COLUMN in_top2_nobos DROP DEFAULT;
ALTER TABLE neuron_curves ALTER COLUMN population DROP DEFAULT;
ALTER TABLE neuron_sums ALTER COLUMN population DROP DEFAULT;

ALTER TABLE neuron_changes ALTER COLUMN in_top2 SET NOT NULL;
ALTER TABLE neuron_changes ALTER COLUMN in_top2_nobos SET NOT NULL;
ALTER TABLE neuron_curves ALTER COLUMN population SET NOT NULL;
ALTER TABLE neuron_sums ALTER COLUMN population SET NOT NULL;
