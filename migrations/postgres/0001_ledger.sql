-- What must be decided together: nonces, budgets, idempotency, audit. `migrations/sqlite` has the same tables.

-- One row for each payload that was ever let through to the token.
CREATE TABLE reservation (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        TEXT    NOT NULL,
    -- reserved: may be signed. recorded: signed, durable, may leave. outbid: recorded, and another payload was recorded
    -- or is being signed in its place; either may be mined. vacant: a node refused it for good, so its nonce is free for
    -- a payload that outbids it. void: never signed, or signed too late; its signature is worth nothing. final: in a
    -- block that cannot be undone. replaced: another payload at its nonce is final.
    state       TEXT    NOT NULL,
    -- What follows from the state, for the indexes: they are left alone while these stay. live: 1 for the payload that its
    -- nonce is given to, 0 for one in whose place another came or may come, NULL for one that is void. open: 1 until it is
    -- void or the chain has decided of it; until it is recorded, where it has no nonce.
    live        BIGINT,
    open        BIGINT NOT NULL,
    client      TEXT    NOT NULL,
    request     TEXT    NOT NULL,
    account     BYTEA    NOT NULL CHECK (length(account) = 20),
    chain       BIGINT,
    nonce       BIGINT,
    intent      BYTEA    NOT NULL CHECK (length(intent) = 32),
    -- wei for a unit of gas, big-endian, 128 bits; NULL for kinds without a nonce
    max_fee     BYTEA,
    max_tip     BYTEA,
    -- the same for a unit of blob gas; NULL where there are no blobs
    max_blob_fee BYTEA,
    reserved_at BIGINT NOT NULL, -- ms since 1970
    void_at     BIGINT NOT NULL, -- ms since 1970: from then on any writer voids it, unless it is recorded
    -- By which rule, and from when on budgets count it: when it was reserved, then when it was recorded. A budget that
    -- is new is counted from these.
    rule        TEXT    NOT NULL,
    charged_at  BIGINT  NOT NULL, -- ms since 1970
    raw         BYTEA,
    hash        BYTEA,
    -- 1: returned to the client and not sent by us, until we are asked to send it
    returned    BIGINT NOT NULL,
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
        ELSE false END),
    CHECK (open = 0 OR open = 1),
    CHECK ((chain IS NULL) = (nonce IS NULL)),
    CHECK ((raw IS NULL) = (hash IS NULL))
);

-- Invariant 2, kept by the database as well: no two live payloads at one nonce. One that is outbid is live no longer.
CREATE UNIQUE INDEX one_live_payload_per_nonce ON reservation (chain, account, nonce) WHERE live = 1;
CREATE INDEX by_nonce ON reservation (chain, account, nonce) WHERE live IS NOT NULL;
-- What is handed in signed has no nonce of ours; what we sign is looked for at its nonce.
CREATE INDEX by_hash ON reservation (hash) WHERE nonce IS NULL AND hash IS NOT NULL;
CREATE INDEX undecided ON reservation (id) WHERE open = 1;
-- Of several writers each looks in each commit what is reserved, and reads an account's rows in each commit, from the last nonce on of which the chain has decided.
CREATE INDEX unrecorded ON reservation (id) WHERE open = 1 AND state = 'reserved';
CREATE INDEX settled ON reservation (chain, account, nonce) WHERE live IS NOT NULL AND open = 0;

-- Append-only, each row's hash over its content and the hash before it.
CREATE TABLE audit (
    seq      BIGINT PRIMARY KEY,
    at       BIGINT NOT NULL, -- ms since 1970, never less than the row before
    kind     TEXT    NOT NULL,
    body     TEXT    NOT NULL, -- JSON
    previous BYTEA    NOT NULL CHECK (length(previous) = 32),
    hash     BYTEA    NOT NULL CHECK (length(hash) = 32)
);

-- The newest checkpoint is looked for at each start and before each checkpoint.
CREATE INDEX checkpoints ON audit (seq) WHERE kind = 'checkpoint';

-- The last row that was taken out to a file; one row.
CREATE TABLE archive (
    one  BIGINT PRIMARY KEY CHECK (one = 1),
    upto BIGINT NOT NULL,
    hash BYTEA  NOT NULL CHECK (length(hash) = 32),
    at   BIGINT NOT NULL -- ms since 1970: the row's own time
);

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.kind NOT IN ('checkpoint', 'key') AND OLD.seq <= (SELECT max(upto) FROM archive) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit chain is append-only';
END;
$$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_keeps_every_row BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

-- Where the chain ends; one row.
CREATE TABLE head (
    one  BIGINT PRIMARY KEY CHECK (one = 1),
    seq  BIGINT NOT NULL,
    hash BYTEA    NOT NULL
);

-- The text of every policy that was ever in force, by its hash.
CREATE TABLE policy (
    hash     BYTEA PRIMARY KEY CHECK (length(hash) = 32),
    text     TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    serial   BIGINT -- of the manifest that officers signed, where they must
);

-- What all writers agree on; one row.
CREATE TABLE agreed (
    one          BIGINT PRIMARY KEY CHECK (one = 1),
    -- The policy by which reservations must have been judged.
    policy       BYTEA,
    -- Which writer looks after what was sent, and until when, in ms since 1970.
    leader       TEXT,
    leader_until BIGINT NOT NULL,
    -- While clocks are behind what the ledger has seen: where its time stands still, in ms since 1970, and the lowest payload
    -- that may have been stamped then.
    lag_since    BIGINT,
    lag_from     BIGINT,
    CHECK ((lag_since IS NULL) = (lag_from IS NULL))
);
INSERT INTO agreed (one, leader_until) VALUES (1, 0);

-- Written to learn whether writing is possible; means nothing.
CREATE TABLE probe (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    at  BIGINT NOT NULL
);

-- What budgets count. Amounts are 256 bits, big-endian.

-- What each payload takes from each budget, while the chain has not decided of it.
CREATE TABLE charge (
    reservation BIGINT NOT NULL,
    budget      TEXT    NOT NULL,
    scope       TEXT    NOT NULL,
    -- Where the payload stands, as its own row says: all of them are read for each count, and no other column of those rows is.
    chain       BIGINT,
    account     BYTEA,
    nonce       BIGINT,
    amount      BYTEA    NOT NULL CHECK (length(amount) = 32),
    -- A batch of calls may be on several counts of one budget.
    PRIMARY KEY (reservation, budget, scope),
    CHECK ((chain IS NULL) = (nonce IS NULL) AND (account IS NULL) = (nonce IS NULL))
);
CREATE INDEX charge_by_budget ON charge (budget, scope);

-- What is spent for good, in sixtieths of the window.
CREATE TABLE spent (
    budget TEXT    NOT NULL,
    scope  TEXT    NOT NULL,
    bucket BIGINT NOT NULL,
    amount BYTEA    NOT NULL CHECK (length(amount) = 32),
    PRIMARY KEY (budget, scope, bucket)
);

-- The budgets that are counted now. One that is not here, or is here with another definition, is counted anew from
-- the payloads before a policy with it is in force.
CREATE TABLE budget (
    id         TEXT PRIMARY KEY,
    definition BYTEA    NOT NULL CHECK (length(definition) = 32),
    window_ms  BIGINT NOT NULL
);

-- What may not be signed until an operator says so: one row for each pause that holds now; the audit chain has those
-- that were.
CREATE TABLE pause (
    scope    TEXT    NOT NULL CHECK (scope IN ('all', 'account', 'client')),
    -- An address in lower case with 0x, a client's name, or nothing for all.
    name     TEXT    NOT NULL,
    reason   TEXT,
    operator TEXT    NOT NULL,
    person   TEXT    NOT NULL,
    since    BIGINT NOT NULL, -- ms since 1970
    PRIMARY KEY (scope, name),
    CHECK ((scope = 'all') = (name = ''))
);

-- What was reserved last under a client's key, or under its intent where the client has a window.
CREATE TABLE idempotency (
    client      TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    reservation BIGINT NOT NULL,
    intent      BYTEA    NOT NULL CHECK (length(intent) = 32),
    at          BIGINT NOT NULL, -- ms since 1970: when it was reserved
    refusal     TEXT,             -- in what words a node refused it for good
    PRIMARY KEY (client, name)
);

CREATE INDEX idempotency_by_age ON idempotency (at);
CREATE INDEX idempotency_by_reservation ON idempotency (reservation);

-- Mined counts that a node named, that stood too far above what the ledger knows, and that an operator took as true.
CREATE TABLE accepted_count (
    chain   BIGINT NOT NULL,
    account BYTEA    NOT NULL CHECK (length(account) = 20),
    count   BIGINT NOT NULL,
    PRIMARY KEY (chain, account)
);

-- Where a transaction creates a contract, which follows from its account and nonce: leads from an address to the row.
CREATE TABLE creation (
    reservation BIGINT PRIMARY KEY,
    address     BYTEA    NOT NULL CHECK (length(address) = 20)
);
CREATE INDEX creation_by_address ON creation (address);
