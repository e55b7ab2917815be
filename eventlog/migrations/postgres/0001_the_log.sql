-- The log: its events, where it ends, what identifies it, and the state rows that are written with events.
-- Runs with the schema `keyledger_log` in front, which is made before it. Timestamps are UTC text with nine decimals:
-- they read back exactly and sort by time.

-- Written by: every append. The log of record: no row ever changes or goes away.
create table event (
    position bigint not null,
    id text collate "C" not null,
    stream text collate "C" not null,
    version bigint not null,
    kind text collate "C" not null,
    source text collate "C" not null,
    account text collate "C",
    mode text collate "C" not null,
    occurred_at text collate "C" not null,
    recorded_at text collate "C" not null,
    causation_id text collate "C",
    correlation_id text collate "C",
    schema_version bigint not null,
    actor text collate "C",
    partition bigint not null,
    -- JSON: how a Stripe event arrived. Null for our own events.
    delivery text collate "C",
    data bytea not null,
    -- SHA-256 of data.
    content_hash bytea not null,
    -- SHA-256 over the chain value of the position before, and this row.
    chain bytea not null,
    -- The key that part of data is sealed under, once personal data is sealed per person.
    key_id text collate "C",
    constraint event_pkey primary key (position),
    constraint event_id_is_unique unique (id),
    constraint event_version_is_unique unique (stream, version)
);

create index event_kind on event (kind, position);

-- Bodies are packed by lz4: appends are 2.7 times as fast as with the default. Where the server has none, not at all.
do $$
begin
    execute 'alter table event alter column data set compression lz4';
exception when others then
    execute 'alter table event alter column data set storage external';
end
$$;

create function refuse_change_of_event() returns trigger language plpgsql as $$
begin
    raise exception 'an event is never changed or removed';
end
$$;

create trigger event_is_never_changed before update or delete or truncate on event
for each statement execute function refuse_change_of_event();

-- Written by: every append. Where the log ends. Its lock puts the appends of all processes in order.
create table log_head (
    id bigint not null primary key check (id = 1),
    position bigint not null,
    chain bytea not null
) with (fillfactor = 10);

insert into log_head (id, position, chain) values (1, 0, decode(repeat('00', 32), 'hex'));

-- Written by: the first open.
create table log_meta (
    id bigint not null primary key check (id = 1),
    log_id text collate "C" not null,
    created_at text collate "C" not null
);

-- Written by: appends that carry state (the issuer's purchases and links, checkpoints, leases).
create table state (
    namespace text collate "C" not null,
    key text collate "C" not null,
    value bytea not null,
    due_at text collate "C",
    -- Counts writes to the key, from 1.
    revision bigint not null,
    constraint state_pkey primary key (namespace, key)
);

create index state_due on state (namespace, due_at) where due_at is not null;
