-- What may not be signed until an operator says so, and by what name a repeated request is known.

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

-- What was reserved last under a client's key, or under its intent where the client has a window.
CREATE TABLE idempotency (
    client      TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    reservation INTEGER NOT NULL,
    intent      BLOB    NOT NULL CHECK (length(intent) = 32),
    at          INTEGER NOT NULL, -- ms since 1970: when it was reserved
    refusal     TEXT,             -- in what words a node refused it for good
    PRIMARY KEY (client, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_by_age ON idempotency (at);
CREATE INDEX idempotency_by_reservation ON idempotency (reservation);
