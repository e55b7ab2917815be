-- The views: what the log says, folded. All of it may be deleted and is then read from the log again.
-- Timestamps are UTC text with nine decimals: they read back exactly and sort by time.
-- `scope` is source:account:mode; a purchase is named by its scope and its object (sub_…, in_…, cs_…).
-- Small rows live in the tree of their key (`without rowid`): one tree to write instead of two.

-- Written when the file is made: which tables and which fold these rows are of. Others are dropped and rebuilt.
create table view_meta (
    id integer not null primary key,
    schema_version integer not null,
    projection_version integer not null,
    constraint view_meta_is_one_row check (id = 1)
) strict;

-- Written with every batch, in its transaction: how far the log has been folded.
create table checkpoint (
    name text not null primary key,
    position integer not null,
    -- The chain value at that position.
    chain blob not null
) strict;

-- Written for events that can never be folded, with the reason.
create table parked (
    position integer not null primary key,
    event_id text not null,
    kind text not null,
    reason text not null,
    recorded_at text not null
) strict;

-- Written by settings.changed: the settings that decide from there on, JSON.
create table deciding (
    id integer not null primary key,
    settings text not null,
    position integer not null,
    constraint deciding_is_one_row check (id = 1)
) strict;

-- Written by stripe.* events about subscriptions, invoices, sessions, intents, charges, refunds and disputes:
-- what is known of each object (sets, maxima and registers, as JSON), and the purchase it was routed to.
create table object (
    scope text not null,
    kind text not null,
    id text not null,
    source text not null,
    mode text not null,
    -- Null while it waits for a link.
    purchase text,
    customer text,
    status text,
    amount_minor integer,
    currency text,
    -- The number on an invoice's paper.
    number text,
    happened_at text,
    facts text not null,
    first_position integer not null,
    last_position integer not null,
    sort_key text not null,
    constraint object_pk primary key (scope, kind, id)
) strict;

create index object_waiting on object (scope, id) where purchase is null and kind = 'invoice' and status = 'paid';
create index object_purchase on object (purchase, scope);
create index object_customer on object (customer, scope);
create index object_status on object (status, sort_key) where kind = 'subscription';
create index object_id on object (id);
create index object_number on object (number) where number is not null;
create unique index object_sort on object (kind, sort_key);

-- Written by stripe.* events: child is nearer to the money, parent nearer to the sale. Also holds refunds and disputes
-- under their payment, where they wait until it is routed.
create table link (
    scope text not null,
    parent_kind text not null,
    parent text not null,
    child_kind text not null,
    child text not null,
    constraint link_pk primary key (scope, parent_kind, parent, child_kind, child)
) strict, without rowid;

-- Written by stripe.* events: names of lines and items within their invoice or subscription, for search.
create table part (
    scope text not null,
    id text not null,
    object_kind text not null,
    object text not null,
    constraint part_pk primary key (id, scope, object_kind, object)
) strict, without rowid;

-- Written by the stripe.* event that first names a purchase; it keeps that name.
create table purchase (
    scope text not null,
    id text not null,
    source text not null,
    mode text not null,
    customer text,
    -- JSON: items that were named by their price before their si_… was known, and the si_… learned since.
    names text not null,
    opened_at text not null,
    first_position integer not null,
    last_position integer not null,
    constraint purchase_pk primary key (scope, id)
) strict;

create index purchase_customer on purchase (customer, scope);

-- Written by obligation.*, license.* and operator.* events: what happened to one unit, JSON.
create table unit (
    scope text not null,
    purchase text not null,
    item text not null,
    number integer not null,
    facts text not null,
    constraint unit_pk primary key (scope, purchase, item, number)
) strict;

-- Written by stripe.customer.* events.
create table customer (
    scope text not null,
    id text not null,
    source text not null,
    mode text not null,
    name text,
    name_folded text,
    email text,
    deleted_at text,
    -- JSON: the snapshot that counts.
    facts text not null,
    first_position integer not null,
    last_position integer not null,
    sort_key text not null,
    constraint customer_pk primary key (scope, id)
) strict;

create index customer_id on customer (id);
create index customer_name on customer (name_folded);
create unique index customer_sort on customer (sort_key);

-- Written by stripe.* events that carry an address: every address a customer, session or invoice ever showed, normalized.
create table contact (
    email text not null,
    scope text not null,
    object_kind text not null,
    object text not null,
    constraint contact_pk primary key (email, scope, object_kind, object)
) strict, without rowid;

-- Written by stripe.price.*, stripe.plan.* and every event that embeds a price.
create table price (
    scope text not null,
    id text not null,
    facts text not null,
    constraint price_pk primary key (scope, id)
) strict;

-- Written by stripe.product.* events.
create table product (
    scope text not null,
    id text not null,
    facts text not null,
    constraint product_pk primary key (scope, id)
) strict;

-- Derived: which prices and products a purchase sells, so that a change of their metadata reaches it.
create table sold (
    scope text not null,
    kind text not null,
    id text not null,
    purchase text not null,
    constraint sold_pk primary key (scope, kind, id, purchase)
) strict, without rowid;

create index sold_purchase on sold (scope, purchase);

-- Derived after every event that touches the purchase: each unit that has periods, and what it is owed.
create table obligation (
    scope text not null,
    purchase text not null,
    item text not null,
    number integer not null,
    source text not null,
    mode text not null,
    -- Null: for ever when has_counting, else nothing counts any more.
    paid_until text,
    has_counting integer not null,
    charged integer not null,
    standing text not null,
    -- no_key, free_without_key, not_extended, or null when nothing is open.
    open text,
    cause text,
    amount_minor integer,
    currency text,
    price text,
    provider text,
    product text,
    constraint obligation_pk primary key (scope, purchase, item, number)
) strict, without rowid;

create index obligation_open on obligation (scope, open) where open is not null;

-- Derived: every license a unit ever had, and units that were stopped before one was made (without provider). What
-- should stand still shows dates, seats and features as the facts give them; all else as last confirmed.
create table license (
    id text not null primary key,
    scope text not null,
    source text not null,
    mode text not null,
    purchase text not null,
    item text not null,
    number integer not null,
    generation integer not null,
    customer text,
    -- As last confirmed: active, suspended, revoked. Grace and expired are computed on reading.
    state text not null,
    reason text,
    -- made, found, adopted, none
    origin text not null,
    provider text,
    provider_id text,
    -- JSON: other ids that the engine has for it, by the engine's own words for them.
    also text not null,
    product text,
    key_sealed text,
    key_id text,
    key_hash text,
    key_last4 text,
    seats integer,
    features text not null,
    paid_until text,
    expires_at text,
    perpetual integer not null,
    issued_at text,
    sort_key text not null
) strict;

create index license_purchase on license (purchase, scope);
create index license_customer on license (customer, scope);
create index license_key_hash on license (key_hash) where key_hash is not null;
create index license_key_last4 on license (key_last4) where key_last4 is not null;
create unique index license_sort on license (sort_key);

-- Derived: every id by which an engine knows a license, for search.
create table license_name (
    scope text not null,
    purchase text not null,
    license text not null,
    -- `id` for the engine's own id, else the engine's word for it (`globalId`).
    kind text not null,
    id text not null,
    constraint license_name_pk primary key (license, kind)
) strict, without rowid;

create index license_name_purchase on license_name (scope, purchase);
create index license_name_id on license_name (id);

-- Derived: what was paid for each price in a purchase, and what that means by the settings.
create table paid_price (
    scope text not null,
    purchase text not null,
    price text not null,
    currency text not null,
    source text not null,
    mode text not null,
    product text,
    times integer not null,
    amount_minor integer not null,
    first_paid_at text,
    -- license, addon, skip, unusable, nothing
    means text not null,
    constraint paid_price_pk primary key (scope, purchase, price, currency)
) strict, without rowid;

create index paid_price_means on paid_price (means, mode);

-- Written by customer.linked and customer.synced: who a customer of Stripe's is at a license engine.
create table provider_customer (
    scope text not null,
    -- cus_…; for a sale without a customer, the purchase.
    customer text not null,
    provider text not null,
    -- The engine's own id.
    id text not null,
    source text not null,
    mode text not null,
    made integer not null,
    -- The engine said that another customer of Stripe's has the same one.
    shared integer not null,
    linked_at text not null,
    synced_at text,
    -- What the engine said when it did not take a new name or address.
    refused text,
    last_position integer not null,
    constraint provider_customer_pk primary key (scope, customer, provider)
) strict;

create index provider_customer_id on provider_customer (id);

-- Written by reconcile.completed: the last time that the log was compared with what Stripe holds.
create table reconciled (
    source text not null,
    mode text not null,
    at text not null,
    since text not null,
    events_seen integer not null,
    events_appended integer not null,
    objects_seen integer not null,
    objects_appended integer not null,
    last_position integer not null,
    constraint reconciled_pk primary key (source, mode)
) strict;

-- Derived: cases, open, closed and waived. They close by themselves when their fact changes, or by a waiver.
create table casefile (
    id text not null primary key,
    kind text not null,
    status text not null,
    scope text not null,
    source text not null,
    mode text not null,
    subject text not null,
    purchase text,
    item text,
    number integer,
    customer text,
    amount_minor integer,
    currency text,
    opened_at text not null,
    opened_position integer not null,
    -- Not shown before this moment (a fact may wait an hour without being a case).
    visible_from text not null,
    last_position integer not null,
    closed_at text,
    cause text,
    -- 1: on reading the cause is issuer_behind while the issuer has not come to last_position.
    awaits_issuer integer not null,
    detail text,
    attempts integer not null,
    next_attempt_at text,
    waived_by text,
    waived_reason text,
    sort_key text not null
) strict;

create index casefile_purchase on casefile (purchase, scope);
create index casefile_status on casefile (status, sort_key);
create index casefile_kind on casefile (kind, sort_key);
create index casefile_kind_status on casefile (kind, status, sort_key);
create index casefile_customer on casefile (customer, scope);
create unique index casefile_sort on casefile (sort_key);
