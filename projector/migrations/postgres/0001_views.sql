-- The views: what the log says, folded. All of it may be deleted and is then read from the log again.
-- Timestamps are UTC text with nine decimals: they read back exactly and sort by time.
-- `scope` is source:account:mode; a purchase is named by its scope and its object (sub_…, in_…, cs_…).

-- Written when the file is made: which tables and which fold these rows are of. Others are dropped and rebuilt.
create table view_meta (
    id bigint not null primary key,
    schema_version bigint not null,
    projection_version bigint not null,
    constraint view_meta_is_one_row check (id = 1)
);

-- Written with every batch, in its transaction: how far the log has been folded.
create table checkpoint (
    name text collate "C" not null primary key,
    position bigint not null,
    -- The chain value at that position.
    chain bytea not null
);

-- Written for events that can never be folded, with the reason.
create table parked (
    position bigint not null primary key,
    event_id text collate "C" not null,
    kind text collate "C" not null,
    reason text collate "C" not null,
    recorded_at text collate "C" not null
);

-- Written by settings.changed: the settings that decide from there on, JSON.
create table deciding (
    id bigint not null primary key,
    settings text collate "C" not null,
    position bigint not null,
    constraint deciding_is_one_row check (id = 1)
);

-- Written by stripe.* events about subscriptions, invoices, sessions, intents, charges, refunds and disputes:
-- what is known of each object (sets, maxima and registers, as JSON), and the purchase it was routed to.
create table object (
    scope text collate "C" not null,
    kind text collate "C" not null,
    id text collate "C" not null,
    source text collate "C" not null,
    mode text collate "C" not null,
    -- Null while it waits for a link.
    purchase text collate "C",
    customer text collate "C",
    status text collate "C",
    amount_minor bigint,
    currency text collate "C",
    -- The number on an invoice's paper.
    number text collate "C",
    happened_at text collate "C",
    facts text collate "C" not null,
    first_position bigint not null,
    last_position bigint not null,
    sort_key text collate "C" not null,
    constraint object_pk primary key (scope, kind, id)
);

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
    scope text collate "C" not null,
    parent_kind text collate "C" not null,
    parent text collate "C" not null,
    child_kind text collate "C" not null,
    child text collate "C" not null,
    constraint link_pk primary key (scope, parent_kind, parent, child_kind, child)
);

-- Written by stripe.* events: names of lines and items within their invoice or subscription, for search.
create table part (
    scope text collate "C" not null,
    id text collate "C" not null,
    object_kind text collate "C" not null,
    object text collate "C" not null,
    constraint part_pk primary key (id, scope, object_kind, object)
);

-- Written by the stripe.* event that first names a purchase; it keeps that name.
create table purchase (
    scope text collate "C" not null,
    id text collate "C" not null,
    source text collate "C" not null,
    mode text collate "C" not null,
    customer text collate "C",
    -- JSON: items that were named by their price before their si_… was known, and the si_… learned since.
    names text collate "C" not null,
    opened_at text collate "C" not null,
    first_position bigint not null,
    last_position bigint not null,
    constraint purchase_pk primary key (scope, id)
);

create index purchase_customer on purchase (customer, scope);

-- Written by obligation.*, license.* and operator.* events: what happened to one unit, JSON.
create table unit (
    scope text collate "C" not null,
    purchase text collate "C" not null,
    item text collate "C" not null,
    number bigint not null,
    facts text collate "C" not null,
    constraint unit_pk primary key (scope, purchase, item, number)
);

-- Written by stripe.customer.* events.
create table customer (
    scope text collate "C" not null,
    id text collate "C" not null,
    source text collate "C" not null,
    mode text collate "C" not null,
    name text collate "C",
    name_folded text collate "C",
    email text collate "C",
    deleted_at text collate "C",
    -- JSON: the snapshot that counts.
    facts text collate "C" not null,
    first_position bigint not null,
    last_position bigint not null,
    sort_key text collate "C" not null,
    constraint customer_pk primary key (scope, id)
);

create index customer_id on customer (id);
create index customer_name on customer (name_folded);
create unique index customer_sort on customer (sort_key);

-- Written by stripe.* events that carry an address: every address a customer, session or invoice ever showed, normalized.
create table contact (
    email text collate "C" not null,
    scope text collate "C" not null,
    object_kind text collate "C" not null,
    object text collate "C" not null,
    constraint contact_pk primary key (email, scope, object_kind, object)
);

-- Written by stripe.price.*, stripe.plan.* and every event that embeds a price.
create table price (
    scope text collate "C" not null,
    id text collate "C" not null,
    facts text collate "C" not null,
    constraint price_pk primary key (scope, id)
);

-- Written by stripe.product.* events.
create table product (
    scope text collate "C" not null,
    id text collate "C" not null,
    facts text collate "C" not null,
    constraint product_pk primary key (scope, id)
);

-- Derived: which prices and products a purchase sells, so that a change of their metadata reaches it.
create table sold (
    scope text collate "C" not null,
    kind text collate "C" not null,
    id text collate "C" not null,
    purchase text collate "C" not null,
    constraint sold_pk primary key (scope, kind, id, purchase)
);

create index sold_purchase on sold (scope, purchase);

-- Derived after every event that touches the purchase: each unit that has periods, and what it is owed.
create table obligation (
    scope text collate "C" not null,
    purchase text collate "C" not null,
    item text collate "C" not null,
    number bigint not null,
    source text collate "C" not null,
    mode text collate "C" not null,
    -- Null: for ever when has_counting, else nothing counts any more.
    paid_until text collate "C",
    has_counting bigint not null,
    charged bigint not null,
    standing text collate "C" not null,
    -- no_key, free_without_key, not_extended, or null when nothing is open.
    open text collate "C",
    cause text collate "C",
    amount_minor bigint,
    currency text collate "C",
    price text collate "C",
    provider text collate "C",
    product text collate "C",
    constraint obligation_pk primary key (scope, purchase, item, number)
);

create index obligation_open on obligation (scope, open) where open is not null;

-- Derived: every license a unit ever had, and units that were stopped before one was made (without provider). What
-- should stand still shows dates, seats and features as the facts give them; all else as last confirmed.
create table license (
    id text collate "C" not null primary key,
    scope text collate "C" not null,
    source text collate "C" not null,
    mode text collate "C" not null,
    purchase text collate "C" not null,
    item text collate "C" not null,
    number bigint not null,
    generation bigint not null,
    customer text collate "C",
    -- As last confirmed: active, suspended, revoked. Grace and expired are computed on reading.
    state text collate "C" not null,
    reason text collate "C",
    -- made, found, adopted, none
    origin text collate "C" not null,
    provider text collate "C",
    provider_id text collate "C",
    -- JSON: other ids that the engine has for it, by the engine's own words for them.
    also text collate "C" not null,
    product text collate "C",
    key_sealed text collate "C",
    key_id text collate "C",
    key_hash text collate "C",
    key_last4 text collate "C",
    seats bigint,
    features text collate "C" not null,
    paid_until text collate "C",
    expires_at text collate "C",
    perpetual bigint not null,
    issued_at text collate "C",
    sort_key text collate "C" not null
);

create index license_purchase on license (purchase, scope);
create index license_customer on license (customer, scope);
create index license_key_hash on license (key_hash) where key_hash is not null;
create index license_key_last4 on license (key_last4) where key_last4 is not null;
create unique index license_sort on license (sort_key);

-- Derived: every id by which an engine knows a license, for search.
create table license_name (
    scope text collate "C" not null,
    purchase text collate "C" not null,
    license text collate "C" not null,
    -- `id` for the engine's own id, else the engine's word for it (`globalId`).
    kind text collate "C" not null,
    id text collate "C" not null,
    constraint license_name_pk primary key (license, kind)
);

create index license_name_purchase on license_name (scope, purchase);
create index license_name_id on license_name (id);

-- Derived: what was paid for each price in a purchase, and what that means by the settings.
create table paid_price (
    scope text collate "C" not null,
    purchase text collate "C" not null,
    price text collate "C" not null,
    currency text collate "C" not null,
    source text collate "C" not null,
    mode text collate "C" not null,
    product text collate "C",
    times bigint not null,
    amount_minor bigint not null,
    first_paid_at text collate "C",
    -- license, addon, skip, unusable, nothing
    means text collate "C" not null,
    constraint paid_price_pk primary key (scope, purchase, price, currency)
);

create index paid_price_means on paid_price (means, mode);

-- Written by customer.linked and customer.synced: who a customer of Stripe's is at a license engine.
create table provider_customer (
    scope text collate "C" not null,
    -- cus_…; for a sale without a customer, the purchase.
    customer text collate "C" not null,
    provider text collate "C" not null,
    -- The engine's own id.
    id text collate "C" not null,
    source text collate "C" not null,
    mode text collate "C" not null,
    made bigint not null,
    -- The engine said that another customer of Stripe's has the same one.
    shared bigint not null,
    linked_at text collate "C" not null,
    synced_at text collate "C",
    -- What the engine said when it did not take a new name or address.
    refused text collate "C",
    last_position bigint not null,
    constraint provider_customer_pk primary key (scope, customer, provider)
);

create index provider_customer_id on provider_customer (id);

-- Written by reconcile.completed: the last time that the log was compared with what Stripe holds.
create table reconciled (
    source text collate "C" not null,
    mode text collate "C" not null,
    at text collate "C" not null,
    since text collate "C" not null,
    events_seen bigint not null,
    events_appended bigint not null,
    objects_seen bigint not null,
    objects_appended bigint not null,
    last_position bigint not null,
    constraint reconciled_pk primary key (source, mode)
);

-- Derived: cases, open, closed and waived. They close by themselves when their fact changes, or by a waiver.
create table casefile (
    id text collate "C" not null primary key,
    kind text collate "C" not null,
    status text collate "C" not null,
    scope text collate "C" not null,
    source text collate "C" not null,
    mode text collate "C" not null,
    subject text collate "C" not null,
    purchase text collate "C",
    item text collate "C",
    number bigint,
    customer text collate "C",
    amount_minor bigint,
    currency text collate "C",
    opened_at text collate "C" not null,
    opened_position bigint not null,
    -- Not shown before this moment (a fact may wait an hour without being a case).
    visible_from text collate "C" not null,
    last_position bigint not null,
    closed_at text collate "C",
    cause text collate "C",
    -- 1: on reading the cause is issuer_behind while the issuer has not come to last_position.
    awaits_issuer bigint not null,
    detail text collate "C",
    attempts bigint not null,
    next_attempt_at text collate "C",
    waived_by text collate "C",
    waived_reason text collate "C",
    sort_key text collate "C" not null
);

create index casefile_purchase on casefile (purchase, scope);
create index casefile_status on casefile (status, sort_key);
create index casefile_kind on casefile (kind, sort_key);
create index casefile_kind_status on casefile (kind, status, sort_key);
create index casefile_customer on casefile (customer, scope);
create unique index casefile_sort on casefile (sort_key);
