-- A database with some of everything, so that dumps and \d commands have something to show.
create extension hstore;
create extension citext;
create schema sales;
create type sales.mood as enum ('sad', 'ok', 'happy');
create type sales.point3 as (x float8, y float8, z float8);
create domain sales.percent as numeric check (value between 0 and 100);
create sequence sales.numbers start 100 increment 5;
create table sales.customers (
    id bigint generated always as identity primary key,
    name text not null collate "C",
    email citext unique,
    tags hstore default '',
    mood sales.mood default 'ok',
    born date,
    share sales.percent,
    place sales.point3,
    raw bytea,
    doc jsonb,
    spans tstzrange[],
    full_name text generated always as (upper(name)) stored
);
insert into sales.customers (name, email, tags, mood, born, share, place, raw, doc, spans)
select 'name ' || n || E'\t\\ "quoted" ''and'' ünï', 'user' || n || '@example.com', hstore('k', n::text),
    (array['sad', 'ok', 'happy'])[1 + n % 3]::sales.mood, date '2000-01-01' + n, n % 100, row(n::float8, n::float8 / 3, -n::float8)::sales.point3,
    decode(md5(n::text), 'hex'), jsonb_build_object('n', n, 'list', jsonb_build_array(n, null, 'x')),
    array[tstzrange('2020-01-01 00:00+00', timestamptz '2020-01-01 00:00+00' + n * interval '1 hour')]
from generate_series(1, 2000) n;
create table sales.orders (
    id int not null, at date not null, customer bigint references sales.customers, amount numeric(12, 2),
    primary key (id, at)
) partition by range (at);
create table sales.orders_2024 partition of sales.orders for values from ('2024-01-01') to ('2025-01-01');
create table sales.orders_rest partition of sales.orders default;
insert into sales.orders select n, date '2023-12-01' + n % 500, 1 + n % 2000, n * 1.01 from generate_series(1, 5000) n;
create index orders_amount on sales.orders (amount desc nulls last) where amount > 100;
create index customers_doc on sales.customers using gin (doc);
create view sales.totals as select customer, sum(amount) as total, count(*) from sales.orders group by customer;
create materialized view sales.best as select * from sales.totals order by total desc limit 10;
create function sales.twice(n int) returns int language sql immutable as 'select n * 2';
create function sales.touch() returns trigger language plpgsql as $f$
begin
    new.name := trim(new.name);
    return new;
end
$f$;
create procedure sales.tidy(keep int) language plpgsql as $p$ begin delete from sales.orders where id < 0; end $p$;
create trigger touch before update on sales.customers for each row execute function sales.touch();
create aggregate sales.product(int) (sfunc = int4mul, stype = int, initcond = '1');
create operator sales.=== (leftarg = int, rightarg = int, function = int4eq);
create cast (sales.mood as int) with inout;
create text search configuration sales.english (copy = pg_catalog.english);
create publication news for table sales.customers;
create statistics sales.linked (dependencies) on id, at from sales.orders;
create foreign data wrapper nowhere;
create server elsewhere foreign data wrapper nowhere;
create foreign table sales.far (a int, b text) server elsewhere;
alter table sales.customers enable row level security;
create policy own on sales.customers for select using (id > 0);
comment on table sales.customers is 'Those who buy; "quotes" and ''more'' — ünïcode';
comment on column sales.customers.email is 'where to write';
do $$ begin
    if not exists (select from pg_roles where rolname = 'proof_reader') then create role proof_reader; end if;
end $$;
grant usage on schema sales to proof_reader;
grant select (id, name), update (name) on sales.customers to proof_reader;
alter default privileges in schema sales grant select on tables to proof_reader;
select lo_from_bytea(4711, decode(repeat('00ff7f', 5000), 'hex'));
comment on large object 4711 is 'a large object';
refresh materialized view sales.best;
analyze;
