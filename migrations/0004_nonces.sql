-- no-transaction
-- Replacement at a nonce, and what an operator says of mined counts.

-- SQLite cannot change a CHECK, so the table is made anew with one more state and its rows are moved. Rows of other
-- tables point to it meanwhile, which only a connection that does not look may do, and only outside of a transaction.
PRAGMA foreign_keys = OFF;
BEGIN IMMEDIATE;
DROP TABLE IF EXISTS reservation_anew;
-- outbid: recorded, and another payload was recorded or is being signed in its place; either may be mined.
CREATE TABLE reservation_anew (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    kind        TEXT    NOT NULL,
    state       TEXT    NOT NULL
                CHECK (state IN ('reserved', 'recorded', 'outbid', 'vacant', 'void', 'final', 'replaced')),
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
    CHECK ((state IN ('recorded', 'outbid', 'vacant', 'final', 'replaced')) = (raw IS NOT NULL)),
    CHECK ((raw IS NULL) = (hash IS NULL))
) STRICT;

INSERT INTO reservation_anew
SELECT id, kind, state, client, request, account, chain, nonce, intent, max_fee, max_tip, reserved_at, raw, hash,
       returned, outcome
FROM reservation;
DROP TABLE reservation;
ALTER TABLE reservation_anew RENAME TO reservation;

-- Invariant 2, kept by the database as well: no two live payloads at one nonce. One that is outbid is live no longer.
CREATE UNIQUE INDEX one_live_payload_per_nonce ON reservation (chain, account, nonce)
    WHERE state IN ('reserved', 'recorded', 'final');
CREATE INDEX by_nonce ON reservation (chain, account, nonce) WHERE state <> 'void';
CREATE INDEX unrecorded ON reservation (id) WHERE state = 'reserved';
CREATE INDEX unsettled ON reservation (account, nonce) WHERE state IN ('recorded', 'outbid', 'vacant');

-- Mined counts that a node named, that stood too far above what the ledger knows, and that an operator took as true.
CREATE TABLE IF NOT EXISTS accepted_count (
    chain   INTEGER NOT NULL,
    account BLOB    NOT NULL CHECK (length(account) = 20),
    count   INTEGER NOT NULL,
    PRIMARY KEY (chain, account)
) STRICT, WITHOUT ROWID;

COMMIT;
PRAGMA foreign_keys = ON;
