-- What may not be signed until an operator says so.

-- One row for each pause that holds now; the audit chain has those that were.
CREATE TABLE pause (
    scope    TEXT    NOT NULL CHECK (scope IN ('all', 'account', 'client')),
    -- An address in lower case with 0x, a client's name, or nothing for all.
    name     TEXT    NOT NULL,
    reason   TEXT,
    operator TEXT    NOT NULL,
    person   TEXT    NOT NULL,
    since    INTEGER NOT NULL, -- ms since 1970
    PRIMARY KEY (scope, name),
    CHECK ((scope = 'all') = (name = ''))
) STRICT, WITHOUT ROWID;
