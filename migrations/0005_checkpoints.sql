-- The newest checkpoint is looked for at each start and before each checkpoint.
CREATE INDEX checkpoints ON audit (seq) WHERE kind = 'checkpoint';
