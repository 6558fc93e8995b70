"""
The queue's tables, and every SQL statement.

:Room: ``spool``
:Called by: `mailhost.spool.group` (writes), `reader` (reads) and `database` (a start).

A recipient's row lives from the commit of its message to its terminal outcome;
a message's row lives as long as one of its recipients.  Times are seconds since
the epoch, addresses are as on the wire; an empty ``reverse_path`` is the null
reverse-path.

A recipient with a ``group_name`` is to be expanded.  Only a message that has or had one
has a ``next_number``, the number of the next recipient to be added; as long as it has one,
``served`` knows in small letters who has left it and who has got a copy of it.

``parameters`` are what the sender asked for beside the addresses; see
`mailhost.spool.parameters`.
"""

from __future__ import annotations

#: Kept in ``PRAGMA user_version``.
FORMAT = 4

#: format -> what makes the next one of it, in one transaction.
MIGRATE = {
    1: """
ALTER TABLE recipients ADD COLUMN in_doubt INTEGER NOT NULL DEFAULT 0;
CREATE INDEX messages_large ON messages (key) WHERE octets IS NULL;
""",
    2: """
ALTER TABLE messages ADD COLUMN next_number INTEGER;
ALTER TABLE recipients ADD COLUMN host TEXT;
ALTER TABLE recipients ADD COLUMN group_name TEXT;
CREATE TABLE served (
    key INTEGER NOT NULL, address TEXT NOT NULL, PRIMARY KEY (key, address)
) WITHOUT ROWID;
""",
    3: """
ALTER TABLE messages ADD COLUMN parameters TEXT;
ALTER TABLE recipients ADD COLUMN parameters TEXT;
""",
}

CREATE = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE messages (
    key INTEGER PRIMARY KEY,
    reverse_path TEXT NOT NULL,
    body TEXT NOT NULL,
    hello TEXT NOT NULL,
    accepted_at REAL NOT NULL,
    size INTEGER NOT NULL,
    digest BLOB NOT NULL,
    octets BLOB,
    next_number INTEGER,
    parameters TEXT
);
CREATE INDEX messages_large ON messages (key) WHERE octets IS NULL;
CREATE TABLE recipients (
    key INTEGER NOT NULL,
    number INTEGER NOT NULL,
    local TEXT NOT NULL,
    domain TEXT NOT NULL,
    due_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    notified INTEGER NOT NULL DEFAULT 0,
    status TEXT,
    words TEXT,
    in_doubt INTEGER NOT NULL DEFAULT 0,
    host TEXT,
    group_name TEXT,
    parameters TEXT,
    PRIMARY KEY (key, number)
) WITHOUT ROWID;
CREATE TABLE served (
    key INTEGER NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (key, address)
) WITHOUT ROWID;
CREATE INDEX recipients_due ON recipients (due_at);
"""

#: A reader never waits for the writer; a commit is on the disk when it returns.  A content that
#: goes is not written once more, as zeros, which is what SQLite does where Debian has compiled it.
PRAGMAS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 4000;
PRAGMA cache_size = -16384;
PRAGMA temp_store = MEMORY;
PRAGMA secure_delete = FAST;
"""

MESSAGE_COLUMNS = "key, reverse_path, body, hello, accepted_at, size, digest, octets"
RECIPIENT_COLUMNS = "key, number, local, domain, due_at"

DELAY = """
UPDATE recipients
SET due_at = ?, attempts = attempts + 1, notified = max(notified, ?), status = ?, words = ?,
    in_doubt = max(in_doubt, ?)
WHERE key = ? AND number = ?
"""
POSTPONE = """
UPDATE recipients
SET due_at = ?1,
    status = CASE ?2 WHEN '' THEN status ELSE ?2 END,
    words = CASE ?2 WHEN '' THEN words ELSE ?3 END
WHERE key = ?4 AND number = ?5
"""
#: Nearly all recipients have nothing of it, so that an INSERT leaves it out.
HANDLE = """
UPDATE recipients SET host = ?, group_name = ?, parameters = ? WHERE key = ? AND number = ?
"""
#: The same holds for messages.
ASK = "UPDATE messages SET parameters = ? WHERE key = ?"
NUMBER_NEXT = "UPDATE messages SET next_number = ? WHERE key = ?"
COPY_MESSAGE = """
INSERT INTO messages (key, reverse_path, body, hello, accepted_at, size, digest, octets)
SELECT ?, ?, body, hello, accepted_at, size, digest, octets FROM messages WHERE key = ?
"""
REMEMBER = "INSERT OR IGNORE INTO served VALUES (?, ?)"
FORGET_SERVED = """
DELETE FROM served WHERE key = ?1 AND NOT EXISTS (
    SELECT 1 FROM recipients WHERE key = ?1 AND group_name IS NOT NULL
)
"""
#: A message goes with its last recipient, and only then.
FORGET_IF_FINISHED = """
DELETE FROM messages
WHERE key = ? AND NOT EXISTS (SELECT 1 FROM recipients WHERE recipients.key = messages.key)
"""

SELECT_DUE = "SELECT key FROM recipients WHERE due_at < ? ORDER BY due_at LIMIT ? OFFSET ?"
SELECT_CONTENT = "SELECT size, digest, octets FROM messages WHERE key = ?"
SELECT_GROWTH = "SELECT next_number, octets IS NULL FROM messages WHERE key = ?"
#: In one statement: who is in neither was never there.
SELECT_KNOWN = """
SELECT lower(local || '@' || domain) FROM recipients WHERE key = ?1 AND group_name IS NULL
UNION SELECT address FROM served WHERE key = ?1
"""
SELECT_NEXT_DUE = "SELECT min(due_at) FROM recipients WHERE due_at > ?"
#: The rows of messages carry contents and are not to be walked; each has a recipient.
SELECT_COUNTS = """
SELECT (SELECT count(*) FROM (SELECT DISTINCT key FROM recipients)),
    (SELECT count(*) FROM recipients)
"""
#: Takes the snapshot of a transaction that has begun.
SELECT_ANYTHING = "SELECT 1 FROM meta LIMIT 1"
#: Neither is a walk: what is held is a range of an index.
SELECT_HELD_AND_OLDEST = """
SELECT (SELECT count(*) FROM recipients WHERE due_at >= ?),
    (SELECT accepted_at FROM messages ORDER BY key LIMIT 1)
"""
SELECT_OLDEST = "SELECT accepted_at FROM messages ORDER BY key LIMIT 1"
#: Of a range of keys: messages that are due, wait, are held; recipients, those that are held;
#: messages that were put off for hosts here, and for hosts elsewhere.  A message has a digit of
#: its own for both, because `CASE` may be worked out only once for a row.
SELECT_CENSUS = """
SELECT coalesce(sum(due_at <= ?3), 0), coalesce(sum(due_at > ?3 AND due_at < ?4), 0),
    coalesce(sum(due_at >= ?4), 0), coalesce(sum(recipients), 0), coalesce(sum(held), 0),
    coalesce(sum(put_off & 0xffffffff > 0), 0), coalesce(sum(put_off >> 32 > 0), 0)
FROM (
    SELECT min(due_at) AS due_at, count(*) AS recipients, sum(due_at >= ?4) AS held, sum(
        CASE
            WHEN status IS NULL OR due_at <= ?3 OR due_at >= ?4 THEN 0
            WHEN host IS NULL AND lower(domain) IN (SELECT value FROM json_each(?5)) THEN 1
            ELSE 1 << 32
        END
    ) AS put_off
    FROM recipients WHERE key > ?1 AND key <= ?2 GROUP BY key
)
"""
#: What is left of damaged rows; hexadecimal, because it may not even be text.
SELECT_RAW_MESSAGE = """
SELECT hex(reverse_path), hex(body), hex(hello), hex(accepted_at), hex(size), hex(digest),
    hex(parameters)
FROM messages WHERE key = ?
"""
SELECT_RAW_RECIPIENTS = """
SELECT hex(number), hex(local), hex(domain), hex(due_at), hex(attempts), hex(notified),
    hex(in_doubt), hex(host), hex(group_name), hex(parameters)
FROM recipients WHERE key = ? ORDER BY number
"""
SELECT_RAW_OCTETS = "SELECT CAST(octets AS BLOB) FROM messages WHERE key = ?"
SELECT_IS_QUEUED = "SELECT 1 FROM messages WHERE key = ?"
#: Keys rise with time, so those of the future are few.
#: By the key, of which nearly always none is that high; not by the times of a whole queue, which
#: the plus signs keep out of it.
WAKE = """
UPDATE recipients SET due_at = ?
WHERE key > ? AND +due_at > ? AND +due_at < ? AND attempts = 0
"""
#: Where so many recipients from a message on end.
SELECT_BOUND = "SELECT key FROM recipients WHERE key > ? ORDER BY key LIMIT 1 OFFSET ?"
SELECT_CONTENT_PART = "SELECT octets IS NULL, substr(octets, ?, ?) FROM messages WHERE key = ?"
REHOME = "UPDATE recipients SET host = ? WHERE key = ? AND number = ?"
SELECT_LARGE = "SELECT key FROM messages WHERE octets IS NULL"
#: No id is given twice, whatever has left the queue meanwhile.
SELECT_LAST = """
SELECT max(
    coalesce((SELECT max(key) FROM messages), 0),
    coalesce((SELECT value FROM meta WHERE name = 'reserved_key'), 0)
)
"""
SELECT_META = "SELECT value FROM meta WHERE name = ?"
NAME_STORE = "INSERT OR IGNORE INTO meta VALUES ('store', ?)"
RESERVE_KEYS = "INSERT OR REPLACE INTO meta VALUES ('reserved_key', ?)"


def insert_messages(count: int) -> str:
    """One statement for *count* messages: one step in C, not *count*."""
    row = "(?, ?, ?, ?, ?, ?, ?, ?)"
    return f"INSERT INTO messages ({MESSAGE_COLUMNS}) VALUES {', '.join([row] * count)}"


def insert_recipients(count: int) -> str:
    """One statement for *count* recipients."""
    row = "(?, ?, ?, ?, ?)"
    return f"INSERT INTO recipients ({RECIPIENT_COLUMNS}) VALUES {', '.join([row] * count)}"


def select_messages(count: int) -> str:
    """Everything about *count* messages but their content."""
    return (
        "SELECT key, reverse_path, body, hello, accepted_at, size, parameters FROM messages "
        f"WHERE key IN ({_marks(count)})"
    )


def select_known(count: int) -> str:
    """Those of *count* messages that are there."""
    return f"SELECT key FROM messages WHERE key IN ({_marks(count)})"


def select_recipients(count: int) -> str:
    """All recipients of *count* messages."""
    return (
        "SELECT key, number, local, domain, due_at, attempts, notified, in_doubt, "
        "host, group_name, parameters FROM recipients "
        f"WHERE key IN ({_marks(count)}) ORDER BY key, number"
    )


def select_last_outcomes(count: int) -> str:
    """What the last attempts for *count* messages came to."""
    return (
        "SELECT key, number, status, words FROM recipients "
        f"WHERE key IN ({_marks(count)}) AND status IS NOT NULL"
    )


def select_wanted(
    by_sender: bool, by_domain: bool, by_recipient: bool, held: bool | None, by_time: bool
) -> str:
    """
    Keys of messages, the number of their recipients, and of those that are wanted: one at least.

    Its variables, as far as they are asked for: patterns of domain and of address,
    `mailhost.model.queue.HELD_AT`; the keys behind which and up to which it looks; pattern of
    the sender and both keys again, the time; how many are wanted.
    """
    where, having = ["key > ?", "key <= ?"], ["1"]
    if by_sender:
        path = "CASE reverse_path WHEN '' THEN '<>' ELSE lower(reverse_path) END"
        keys = f"SELECT key FROM messages WHERE {path} GLOB ? AND key > ? AND key <= ?"
        where.append(f"key IN ({keys})")
    if by_time:
        where.append("(SELECT accepted_at FROM messages WHERE key = recipients.key) < ?")
    if by_domain:
        having.append("lower(domain) GLOB ?")
    if by_recipient:
        having.append("lower(local || '@' || domain) GLOB ?")
    if held is not None:
        having.append("due_at >= ?" if held else "due_at < ?")
    return (
        f"SELECT key, count(*), sum({' AND '.join(having)}) AS wanted FROM recipients "
        f"WHERE {' AND '.join(where)} GROUP BY key HAVING wanted > 0 ORDER BY key LIMIT ?"
    )


def remember_recipients(count: int) -> str:
    """One statement that notes *count* recipients of one message as served."""
    return (
        "INSERT OR IGNORE INTO served SELECT key, lower(local || '@' || domain) "
        f"FROM recipients WHERE key = ? AND group_name IS NULL AND number IN ({_marks(count)})"
    )


def delete_recipients(count: int) -> str:
    """One statement that forgets *count* recipients of one message."""
    return f"DELETE FROM recipients WHERE key = ? AND number IN ({_marks(count)})"


def delete_messages(count: int) -> str:
    """One statement that forgets *count* messages."""
    return f"DELETE FROM messages WHERE key IN ({_marks(count)})"


def delete_recipients_of(count: int) -> str:
    """One statement that forgets all recipients of *count* messages."""
    return f"DELETE FROM recipients WHERE key IN ({_marks(count)})"


def _marks(count: int) -> str:
    return ", ".join("?" * count)
