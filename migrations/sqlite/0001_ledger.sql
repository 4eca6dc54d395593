-- What must be decided together: nonces, budgets, idempotency, audit. `migrations/postgres` has the same tables.

-- One row for each payload that was ever let through to the token.
CREATE TABLE reservation (
    id          INTEGER PRIMARY KEY,
    kind        TEXT    NOT NULL,
    -- reserved: may be signed. recorded: signed, durable, may leave. outbid: recorded, and another payload was recorded
    -- or is being signed in its place; either may be mined. vacant: a node refused it for good, so its nonce is free for
    -- a payload that outbids it. void: never signed, or signed too late; its signature is worth nothing. final: in a
    -- block that cannot be undone. replaced: another payload at its nonce is final.
    state       TEXT    NOT NULL,
    -- What follows from the state, for the indexes: they are left alone while these stay. live: 1 for the payload that its
    -- nonce is given to, 0 for one in whose place another came or may come, NULL for one that is void. open: 1 until it is
    -- void or the chain has decided of it; until it is recorded, where it has no nonce.
    live        INTEGER,
    open        INTEGER NOT NULL,
    client      TEXT    NOT NULL,
    request     TEXT    NOT NULL,
    account     BLOB    NOT NULL CHECK (length(account) = 20),
    chain       INTEGER,
    nonce       INTEGER,
    intent      BLOB    NOT NULL CHECK (length(intent) = 32),
    -- wei for a unit of gas, big-endian, 128 bits; NULL for kinds without a nonce
    max_fee     BLOB,
    max_tip     BLOB,
    -- the same for a unit of blob gas; NULL where there are no blobs
    max_blob_fee BLOB,
    reserved_at INTEGER NOT NULL, -- ms since 1970
    void_at     INTEGER NOT NULL, -- ms since 1970: from then on any writer voids it, unless it is recorded
    -- By which rule, and from when on budgets count it: when it was reserved, then when it was recorded. A budget that
    -- is new is counted from these.
    rule        TEXT    NOT NULL,
    charged_at  INTEGER NOT NULL, -- ms since 1970
    raw         BLOB,
    hash        BLOB,
    -- 1: returned to the client and not sent by us, until we are asked to send it
    returned    INTEGER NOT NULL,
    outcome     TEXT, -- what a node said of it last: `refused` as long as it said nothing else, `dropped` from then on
    -- Not by lists: one of more than two is a table to SQLite, which it makes for each row that is written.
    CHECK (CASE state
        WHEN 'reserved' THEN live IS NOT DISTINCT FROM 1 AND open = 1 AND raw IS NULL
        WHEN 'recorded' THEN live IS NOT DISTINCT FROM 1 AND (open = 1) = (nonce IS NOT NULL) AND raw IS NOT NULL
        WHEN 'outbid'   THEN live IS NOT DISTINCT FROM 0 AND (open = 1) = (nonce IS NOT NULL) AND raw IS NOT NULL
        WHEN 'vacant'   THEN live IS NOT DISTINCT FROM 0 AND (open = 1) = (nonce IS NOT NULL) AND raw IS NOT NULL
        WHEN 'void'     THEN live IS NULL AND open = 0 AND raw IS NULL
        WHEN 'final'    THEN live IS NOT DISTINCT FROM 1 AND open = 0 AND raw IS NOT NULL
        WHEN 'replaced' THEN live IS NOT DISTINCT FROM 0 AND open = 0 AND raw IS NOT NULL
        ELSE 0 END),
    CHECK (open = 0 OR open = 1),
    CHECK ((chain IS NULL) = (nonce IS NULL)),
    CHECK ((raw IS NULL) = (hash IS NULL))
) STRICT;

-- Invariant 2, kept by the database as well: no two live payloads at one nonce. One that is outbid is live no longer.
CREATE UNIQUE INDEX one_live_payload_per_nonce ON reservation (chain, account, nonce) WHERE live = 1;
CREATE INDEX by_nonce ON reservation (chain, account, nonce) WHERE live IS NOT NULL;
-- What is handed in signed has no nonce of ours; what we sign is looked for at its nonce.
CREATE INDEX by_hash ON reservation (hash) WHERE nonce IS NULL AND hash IS NOT NULL;
CREATE INDEX undecided ON reservation (id) WHERE open = 1;

-- Append-only, each row's hash over its content and the hash before it.
CREATE TABLE audit (
    seq      INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL, -- ms since 1970, never less than the row before
    kind     TEXT    NOT NULL,
    body     TEXT    NOT NULL, -- JSON
    previous BLOB    NOT NULL CHECK (length(previous) = 32),
    hash     BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- The newest checkpoint is looked for at each start and before each checkpoint.
CREATE INDEX checkpoints ON audit (seq) WHERE kind = 'checkpoint';

CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit chain is append-only'); END;
CREATE TRIGGER audit_keeps_every_row BEFORE DELETE ON audit
WHEN OLD.kind IN ('checkpoint', 'key') OR OLD.seq > coalesce((SELECT max(upto) FROM archive), 0)
BEGIN SELECT RAISE(ABORT, 'the audit chain is append-only'); END;

-- The last row that was taken out to a file; one row.
CREATE TABLE archive (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    upto INTEGER NOT NULL,
    hash BLOB    NOT NULL CHECK (length(hash) = 32),
    at   INTEGER NOT NULL -- ms since 1970: the row's own time
) STRICT;

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
    first_at INTEGER NOT NULL,
    serial   INTEGER -- of the manifest that officers signed, where they must
) STRICT, WITHOUT ROWID;

-- What all writers agree on; one row.
CREATE TABLE agreed (
    one          INTEGER PRIMARY KEY CHECK (one = 1),
    -- The policy by which reservations must have been judged.
    policy       BLOB,
    -- Which writer looks after what was sent, and until when, in ms since 1970.
    leader       TEXT,
    leader_until INTEGER NOT NULL,
    -- While clocks are behind what the ledger has seen: where its time stands still, in ms since 1970, and the lowest payload
    -- that may have been stamped then.
    lag_since    INTEGER,
    lag_from     INTEGER,
    CHECK ((lag_since IS NULL) = (lag_from IS NULL))
) STRICT;
INSERT INTO agreed (one, leader_until) VALUES (1, 0);

-- Written to learn whether writing is possible; means nothing.
CREATE TABLE probe (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at  INTEGER NOT NULL
) STRICT;

-- What budgets count. Amounts are 256 bits, big-endian.

-- What each payload takes from each budget, while the chain has not decided of it.
CREATE TABLE charge (
    reservation INTEGER NOT NULL,
    budget      TEXT    NOT NULL,
    scope       TEXT    NOT NULL,
    -- Where the payload stands, as its own row says: all of them are read for each count, and no other column of those rows is.
    chain       INTEGER,
    account     BLOB,
    nonce       INTEGER,
    amount      BLOB    NOT NULL CHECK (length(amount) = 32),
    -- A batch of calls may be on several counts of one budget.
    PRIMARY KEY (reservation, budget, scope),
    CHECK ((chain IS NULL) = (nonce IS NULL) AND (account IS NULL) = (nonce IS NULL))
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
-- the payloads before a policy with it is in force.
CREATE TABLE budget (
    id         TEXT PRIMARY KEY,
    definition BLOB    NOT NULL CHECK (length(definition) = 32),
    window_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What may not be signed until an operator says so: one row for each pause that holds now; the audit chain has those
-- that were.
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

-- Mined counts that a node named, that stood too far above what the ledger knows, and that an operator took as true.
CREATE TABLE accepted_count (
    chain   INTEGER NOT NULL,
    account BLOB    NOT NULL CHECK (length(account) = 20),
    count   INTEGER NOT NULL,
    PRIMARY KEY (chain, account)
) STRICT, WITHOUT ROWID;

-- Where a transaction creates a contract, which follows from its account and nonce: leads from an address to the row.
CREATE TABLE creation (
    reservation INTEGER PRIMARY KEY,
    address     BLOB    NOT NULL CHECK (length(address) = 20)
) STRICT;
CREATE INDEX creation_by_address ON creation (address);
