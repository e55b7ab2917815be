-- The log: its events, what identifies it, and the state rows that are written with events.
-- Timestamps are UTC text with nine decimals: they read back exactly and sort by time.

-- Makes the file recognizable as a log of keyledger: "klog".
pragma application_id = 1802268519;

-- Written by: every append. The log of record: no row ever changes or goes away.
create table event (
    position integer not null primary key,
    id text not null,
    stream text not null,
    version integer not null,
    kind text not null,
    source text not null,
    account text,
    mode text not null,
    occurred_at text not null,
    recorded_at text not null,
    causation_id text,
    correlation_id text,
    schema_version integer not null,
    actor text,
    partition integer not null,
    -- JSON: how a Stripe event arrived. Null for our own events.
    delivery text,
    data blob not null,
    -- SHA-256 of data.
    content_hash blob not null,
    -- SHA-256 over the chain value of the position before, and this row.
    chain blob not null,
    -- The key that part of data is sealed under, once personal data is sealed per person.
    key_id text,
    constraint event_id_is_unique unique (id),
    constraint event_version_is_unique unique (stream, version)
) strict;

create index event_kind on event (kind, position);

create trigger event_is_never_changed before update on event
begin
    select raise(abort, 'an event is never changed');
end;

create trigger event_is_never_removed before delete on event
begin
    select raise(abort, 'an event is never removed');
end;

-- Written by: the first open (id, log_id, created_at), and by the look-up after a commit of unknown outcome (settled).
create table log_meta (
    id integer not null primary key check (id = 1),
    log_id text not null,
    created_at text not null,
    settled integer not null
) strict;

-- Written by: appends that carry state (the issuer's purchases and links, checkpoints, leases).
create table state (
    namespace text not null,
    key text not null,
    value blob not null,
    due_at text,
    -- Counts writes to the key, from 1.
    revision integer not null,
    primary key (namespace, key)
) strict, without rowid;

create index state_due on state (namespace, due_at) where due_at is not null;
