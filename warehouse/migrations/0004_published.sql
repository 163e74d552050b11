-- The paper's own numbers, to compare with: filled from published/*.csv when the step is applied.

CREATE TABLE published_head_repair (
    published_model VARCHAR NOT NULL,
    hub_name VARCHAR NOT NULL,
    population VARCHAR NOT NULL,
    published_run VARCHAR NOT NULL,
    layer SMALLINT NOT NULL,
    head SMALLINT NOT NULL,
    direct_effect DOUBLE PRECISION NOT NULL,
    ablated_direct_effect DOUBLE PRECISION NOT NULL,
    logit_change DOUBLE PRECISION NOT NULL,
    repair_layernorm DOUBLE PRECISION NOT NULL,
    repair_attention DOUBLE PRECISION NOT NULL,
    repair_mlp DOUBLE PRECISION NOT NULL,
    clipped_layernorm_fraction DOUBLE PRECISION,
    clipped_attention_fraction DOUBLE PRECISION,
    clipped_mlp_fraction DOUBLE PRECISION,
    PRIMARY KEY (published_model, population, published_run, layer, head),
    CHECK (population IN ('all', 'top2'))
);
COMMENT ON TABLE published_head_repair IS 'The paper''s own numbers, not measured here: means of every head under resample ablation, as its authors released them. 3000 prompts of 400 tokens, one document each; weights processed by TransformerLens; numbers to 1e-6.';
COMMENT ON COLUMN published_head_repair.published_model IS 'Name that the paper''s authors have for the model';
COMMENT ON COLUMN published_head_repair.hub_name IS 'Last part of the model''s name on the Hugging Face hub, in lower case: what a measured model is recognised by';
COMMENT ON COLUMN published_head_repair.population IS 'Rows that the means cover: all, or top2: the head''s top 2 % by clean direct effect';
COMMENT ON COLUMN published_head_repair.published_run IS 'Which of the authors'' runs of the model: default, or what its file''s name adds';
COMMENT ON COLUMN published_head_repair.layer IS 'Layer of the ablated head, from 0';
COMMENT ON COLUMN published_head_repair.head IS 'Number of the ablated query head in its layer, from 0';
COMMENT ON COLUMN published_head_repair.direct_effect IS 'Mean of the head''s clean direct effect; > 0: it pushes the correct token up [logits]';
COMMENT ON COLUMN published_head_repair.ablated_direct_effect IS 'Mean direct effect of what another prompt''s output puts in the head''s place; > 0: it pushes the correct token up [logits]';
COMMENT ON COLUMN published_head_repair.logit_change IS 'Mean of ablated minus clean logit of the target; < 0: the ablation hurts [logits]';
COMMENT ON COLUMN published_head_repair.repair_layernorm IS 'Mean self-repair by the final norm''s changed scale; > 0: it compensates [logits]';
COMMENT ON COLUMN published_head_repair.repair_attention IS 'Mean self-repair by later attention layers; > 0: they compensate [logits]';
COMMENT ON COLUMN published_head_repair.repair_mlp IS 'Mean self-repair by later MLPs; > 0: they compensate [logits]';
COMMENT ON COLUMN published_head_repair.clipped_layernorm_fraction IS 'Mean over rows of repair_layernorm / direct_effect, each held within 0..1; NULL: not published [ratio]';
COMMENT ON COLUMN published_head_repair.clipped_attention_fraction IS 'Mean over rows of repair_attention / direct_effect, each held within 0..1; NULL: not published [ratio]';
COMMENT ON COLUMN published_head_repair.clipped_mlp_fraction IS 'Mean over rows of repair_mlp / direct_effect, each held within 0..1; NULL: not published [ratio]';

CREATE TABLE published_feedback (
    published_model VARCHAR NOT NULL,
    hub_name VARCHAR NOT NULL,
    generation VARCHAR NOT NULL,
    receiver VARCHAR NOT NULL,
    layer SMALLINT,
    head SMALLINT,
    n_receivers INTEGER NOT NULL,
    feedback feedback_kind NOT NULL,
    strength SMALLINT NOT NULL,
    n_rows INTEGER NOT NULL,
    mean_direct_effect DOUBLE PRECISION NOT NULL,
    mean_fed_effect DOUBLE PRECISION NOT NULL,
    slope DOUBLE PRECISION NOT NULL,
    intercept DOUBLE PRECISION NOT NULL,
    correlation DOUBLE PRECISION NOT NULL,
    lowered_share DOUBLE PRECISION NOT NULL,
    top10_mean_direct_effect DOUBLE PRECISION NOT NULL,
    top10_mean_fed_effect DOUBLE PRECISION NOT NULL,
    top10_ratio DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (published_model, generation, receiver, feedback, strength),
    CHECK (strength >= 1)
);
COMMENT ON TABLE published_feedback IS 'The paper''s own numbers, not measured here: whether the strongest heads of 13 models repress or reinforce themselves, as its authors released them (self-repression); few positions, numbers to 1e-6.';
COMMENT ON COLUMN published_feedback.published_model IS 'Name that the paper''s authors have for the model';
COMMENT ON COLUMN published_feedback.hub_name IS 'Last part of the model''s name on the Hugging Face hub, in lower case: what a measured model is recognised by';
COMMENT ON COLUMN published_feedback.generation IS 'Which of the authors'' sets of files: old, history or new';
COMMENT ON COLUMN published_feedback.receiver IS 'Which head it is by mean direct effect: top_head to fourth_head of the model, or each_top_head: another one at each position, the highest there';
COMMENT ON COLUMN published_feedback.layer IS 'Layer of the head, from 0; NULL: another head at each position';
COMMENT ON COLUMN published_feedback.head IS 'Number of the head in its layer, from 0; NULL: another head at each position';
COMMENT ON COLUMN published_feedback.n_receivers IS 'Different heads among the positions; 1 unless receiver is each_top_head [heads]';
COMMENT ON COLUMN published_feedback.feedback IS 'What was added to the input of the head''s layer: its own clean output, a random head''s or a random direction';
COMMENT ON COLUMN published_feedback.strength IS 'How many times the output was added [times]';
COMMENT ON COLUMN published_feedback.n_rows IS 'Positions that the fit covers [rows]';
COMMENT ON COLUMN published_feedback.mean_direct_effect IS 'Mean direct effect of the head with nothing added [logits]';
COMMENT ON COLUMN published_feedback.mean_fed_effect IS 'Its mean direct effect with the output added [logits]';
COMMENT ON COLUMN published_feedback.slope IS 'Change of the direct effect with the output added per logit of the clean one; < 1: represses, > 1: reinforces [logits per logit]';
COMMENT ON COLUMN published_feedback.intercept IS 'The fit''s value at a direct effect of 0 [logits]';
COMMENT ON COLUMN published_feedback.correlation IS 'Pearson correlation of the two direct effects [-1..1]';
COMMENT ON COLUMN published_feedback.lowered_share IS 'Positions where the direct effect falls, as a share of n_rows [ratio]';
COMMENT ON COLUMN published_feedback.top10_mean_direct_effect IS 'Mean of the direct effect with nothing added over the 10 % of positions where it is highest [logits]';
COMMENT ON COLUMN published_feedback.top10_mean_fed_effect IS 'Mean of it with the output added over the same positions [logits]';
COMMENT ON COLUMN published_feedback.top10_ratio IS 'The latter mean / the former, top10_mean_fed_effect / top10_mean_direct_effect [ratio]';

COMMENT ON COLUMN schema_migration.sha256 IS 'SHA-256 of the migration''s text and of the rows it brings, in hexadecimal';
