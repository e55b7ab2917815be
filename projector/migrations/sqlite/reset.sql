-- Takes every table of the views away, so that they can be made anew and read from the log again.
drop table if exists view_meta;
drop table if exists checkpoint;
drop table if exists parked;
drop table if exists deciding;
drop table if exists object;
drop table if exists link;
drop table if exists part;
drop table if exists purchase;
drop table if exists unit;
drop table if exists customer;
drop table if exists contact;
drop table if exists price;
drop table if exists product;
drop table if exists sold;
drop table if exists obligation;
drop table if exists license;
drop table if exists casefile;
