-- What must be decided together: nonces, idempotency, audit.

-- One row for each payload that was ever let through to the token.
CREATE TABLE reservation (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    kind        TEXT    NOT NULL,
    -- reserved: may be signed. recorded: signed, durable, may leave. vacant: a node refused it for good, so its
    -- nonce is free for a payload that outbids it. void: never signed, or signed too late; its signature is worth
    -- nothing. final: in a block that cannot be undone. replaced: another payload at its nonce is final.
    state       TEXT    NOT NULL CHECK (state IN ('reserved', 'recorded', 'vacant', 'void', 'final', 'replaced')),
    client      TEXT    NOT NULL,
    request     TEXT    NOT NULL,
    account     BLOB    NOT NULL CHECK (length(account) = 20),
    chain       INTEGER,
    nonce       INTEGER,
    intent      BLOB    NOT NULL CHECK (length(intent) = 32),
    -- wei for a unit of gas, big-endian, 128 bits; NULL for kinds without a nonce
    max_fee     BLOB,
    max_tip     BLOB,
    reserved_at INTEGER NOT NULL, -- ms since 1970
    raw         BLOB,
    hash        BLOB,
    -- 1: returned to the client and not sent by us, until we are asked to send it
    returned    INTEGER NOT NULL,
    outcome     TEXT, -- what a node said of it last
    CHECK ((chain IS NULL) = (nonce IS NULL)),
    CHECK ((state IN ('recorded', 'vacant', 'final', 'replaced')) = (raw IS NOT NULL)),
    CHECK ((raw IS NULL) = (hash IS NULL))
) STRICT;

-- Invariant 2, kept by the database as well: no two live payloads at one nonce.
CREATE UNIQUE INDEX one_live_payload_per_nonce ON reservation (chain, account, nonce)
    WHERE state IN ('reserved', 'recorded', 'final');
CREATE INDEX by_nonce ON reservation (chain, account, nonce) WHERE state <> 'void';
CREATE INDEX unrecorded ON reservation (id) WHERE state = 'reserved';
CREATE INDEX unsettled ON reservation (account, nonce) WHERE state = 'recorded';

-- Append-only, each row's hash over its content and the hash before it.
CREATE TABLE audit (
    seq      INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL, -- ms since 1970, never less than the row before
    kind     TEXT    NOT NULL,
    body     TEXT    NOT NULL, -- JSON
    previous BLOB    NOT NULL CHECK (length(previous) = 32),
    hash     BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit chain is append-only'); END;
CREATE TRIGGER audit_keeps_every_row BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit chain is append-only'); END;

-- Where the chain ends; one row.
CREATE TABLE head (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    seq  INTEGER NOT NULL,
    hash BLOB    NOT NULL
) STRICT;

-- The text of every policy that was ever in force, by its hash.
CREATE TABLE policy (
    hash     BLOB PRIMARY KEY CHECK (length(hash) = 32),
    text     TEXT NOT NULL,
    first_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Written to learn whether writing is possible; means nothing.
CREATE TABLE probe (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at  INTEGER NOT NULL
) STRICT;
