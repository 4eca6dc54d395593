-- What budgets count. Amounts are 256 bits, big-endian.

-- What a payload is charged for, kept for as long as the longest window: from these a new budget is counted anew.
CREATE TABLE fact (
    reservation INTEGER PRIMARY KEY REFERENCES reservation (id),
    rule        TEXT    NOT NULL,
    at          INTEGER NOT NULL -- ms since 1970; when it was reserved, then when it was recorded
) STRICT;
CREATE INDEX fact_by_time ON fact (at);

-- What each payload takes from each budget, while the chain has not decided of it.
CREATE TABLE charge (
    reservation INTEGER NOT NULL REFERENCES reservation (id),
    budget      TEXT    NOT NULL,
    scope       TEXT    NOT NULL,
    amount      BLOB    NOT NULL CHECK (length(amount) = 32),
    PRIMARY KEY (reservation, budget)
) STRICT, WITHOUT ROWID;
CREATE INDEX charge_by_budget ON charge (budget, scope);

-- What is spent for good, in sixtieths of the window.
CREATE TABLE spent (
    budget TEXT    NOT NULL,
    scope  TEXT    NOT NULL,
    bucket INTEGER NOT NULL,
    amount BLOB    NOT NULL CHECK (length(amount) = 32),
    PRIMARY KEY (budget, scope, bucket)
) STRICT, WITHOUT ROWID;

-- The budgets that are counted now. One that is not here, or is here with another definition, is counted anew from
-- the facts before a policy with it is in force.
CREATE TABLE budget (
    id         TEXT PRIMARY KEY,
    definition BLOB NOT NULL CHECK (length(definition) = 32)
) STRICT, WITHOUT ROWID;
