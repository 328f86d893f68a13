DROP SCHEMA IF EXISTS public CASCADE;
DROP SCHEMA IF EXISTS evil CASCADE;
DROP SCHEMA IF EXISTS audit CASCADE;
DROP SCHEMA IF EXISTS mine CASCADE;
CREATE SCHEMA public;
CREATE SCHEMA evil;
CREATE SCHEMA audit;
CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public;
CREATE EXTENSION IF NOT EXISTS pgcrypto SCHEMA public;
CREATE EXTENSION IF NOT EXISTS citext SCHEMA public;
CREATE EXTENSION IF NOT EXISTS dblink SCHEMA public;
CREATE EXTENSION IF NOT EXISTS tablefunc SCHEMA public;
CREATE TABLE teams (id int PRIMARY KEY);
INSERT INTO teams VALUES (1);
CREATE TABLE users (
    id int PRIMARY KEY, name text NOT NULL, email text UNIQUE, phone text, salary int, ssn text, profile jsonb,
    nickname text, active boolean DEFAULT true, created date DEFAULT '2024-01-02', manager int REFERENCES users,
    team int NOT NULL DEFAULT 1 REFERENCES teams ON DELETE SET NULL,
    initials text GENERATED ALWAYS AS (left(email, 6)) STORED
);
INSERT INTO users (id, name, email, phone, salary, ssn, profile, nickname) VALUES
    (1, 'Ada', 'zqxjkvwp@marker.test', '+1917364825', 73194628, '859-62-4173',
     '{"city": "Wqzjxkville", "tags": ["plmvoknij"]}', 'ad'),
    (2, 'Grace', 'bhunyjmk@marker.test', '+1528194637', 91827364, '731-49-8265',
     '{"city": "Ycmrtbgham", "tags": ["qazwsxedc"]}', 'gr');
UPDATE users SET manager = 1;
CREATE TABLE orders (id int PRIMARY KEY, user_id int REFERENCES users, total numeric, note text, emailed boolean);
INSERT INTO orders VALUES (10, 1, 9.5, 'first', true), (11, 2, 20, 'second', false), (12, 1, 3, NULL, false);
CREATE TABLE notes (id serial PRIMARY KEY, body text);
INSERT INTO notes (body) VALUES ('hello');
CREATE TABLE names (name text);
INSERT INTO names VALUES ('Ada'), ('Bob');
CREATE VIEW contacts AS SELECT id, name, email AS mail, nickname FROM users;
CREATE VIEW contacts_again AS SELECT id, upper(mail) AS shout, name FROM contacts;
CREATE VIEW headcount AS SELECT count(*) AS n FROM users;
CREATE VIEW whole AS SELECT u AS person, u.id FROM users u;
CREATE MATERIALIZED VIEW snapshot AS SELECT id, name, email, length(email) AS width FROM users;
CREATE FUNCTION mail_of(who int) RETURNS text LANGUAGE sql AS 'SELECT email FROM public.users WHERE id = who';
CREATE VIEW sneaky AS SELECT id, mail_of(id) AS info FROM users;
CREATE VIEW sneakier AS SELECT mail_of(1) AS info, 1 AS one;
CREATE FUNCTION loud(who int) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN RAISE NOTICE 'mail %', (SELECT email FROM public.users WHERE id = who); RETURN 1; END $$;
CREATE FUNCTION evil.initcap(value varchar) RETURNS text LANGUAGE sql AS 'SELECT email FROM public.users LIMIT 1';
CREATE FUNCTION evil.leak(a int, b int) RETURNS text LANGUAGE sql AS 'SELECT email FROM public.users LIMIT 1';
CREATE OPERATOR evil.%% (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.leak);
CREATE TABLE events (id int, payload text, kind text) PARTITION BY LIST (kind);
CREATE TABLE events_a PARTITION OF events FOR VALUES IN ('a');
CREATE TABLE events_b (kind text, payload text, id int);
ALTER TABLE events ATTACH PARTITION events_b FOR VALUES IN ('b');
INSERT INTO events VALUES (1, 'vfrtgbnhy', 'a'), (2, 'mkoijnbhu', 'b');
CREATE TABLE people (id int, email text);
CREATE TABLE staff (badge text) INHERITS (people);
CREATE TABLE evil.people (email text, id int);
CREATE TABLE shelves (id int PRIMARY KEY, place text);
INSERT INTO shelves VALUES (1, 'attic'), (2, 'cellar');
CREATE TABLE stock (
    id int PRIMARY KEY, name text, shelf int REFERENCES shelves, active boolean DEFAULT true,
    added timestamptz DEFAULT '2024-01-01', tags jsonb DEFAULT '{"colour": "red"}'
);
INSERT INTO stock SELECT n, 'item-' || n, 1 + n % 2, n % 3 > 0 FROM generate_series(1, 12) AS n;
CREATE TYPE wrap AS (e text);
CREATE FUNCTION wrapped(who int) RETURNS wrap LANGUAGE sql AS 'SELECT ROW(email)::public.wrap FROM public.users WHERE id = who';
CREATE CAST (int AS wrap) WITH FUNCTION wrapped(int);
CREATE DOMAIN loud_number AS int CHECK (loud(VALUE) = 1);
CREATE TABLE meters (n loud_number);
CREATE FUNCTION owner_of(notes) RETURNS text LANGUAGE sql AS 'SELECT email FROM public.users LIMIT 1';
CREATE DOMAIN label AS text;
CREATE FUNCTION labelled(orders) RETURNS label LANGUAGE sql AS 'SELECT email::public.label FROM public.users LIMIT 1';
CREATE CAST (orders AS label) WITH FUNCTION labelled(orders);
CREATE EXTENSION IF NOT EXISTS postgres_fdw SCHEMA public;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'elsewhere.test');
CREATE USER MAPPING FOR CURRENT_USER SERVER elsewhere OPTIONS (user 'reader', password 'zqxjkvwp-is-secret');
CREATE VIEW audit.figures AS
    SELECT tablename, attname, most_common_vals::text AS common, histogram_bounds::text AS bounds FROM pg_stats;
CREATE VIEW audit.figures_again AS SELECT lower(bounds) AS b FROM audit.figures;
CREATE TABLE mailings (id int PRIMARY KEY, email_to text REFERENCES users (email) ON UPDATE CASCADE);
INSERT INTO mailings VALUES (1, 'zqxjkvwp@marker.test');
CREATE EXTENSION IF NOT EXISTS btree_gist SCHEMA public;
CREATE TABLE wards (id int PRIMARY KEY);
INSERT INTO wards VALUES (1), (2);
CREATE TABLE patients (
    id int PRIMARY KEY, ward int NOT NULL DEFAULT 1 REFERENCES wards ON UPDATE CASCADE ON DELETE CASCADE,
    illness text, dose int, most int DEFAULT 99999999, CONSTRAINT enough CHECK (dose <= most)
);
INSERT INTO patients VALUES (1, 1, 'gtrplkmwn', 81726354);
CREATE VIEW sick AS SELECT id, ward, most FROM patients;
CREATE TABLE trail (was jsonb);
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO public.trail VALUES (to_jsonb(old)); RETURN coalesce(new, old); END $$;
CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON patients FOR EACH ROW EXECUTE FUNCTION keep();
CREATE TABLE stays (id int PRIMARY KEY, bed int DEFAULT 1, during daterange, EXCLUDE USING gist (bed WITH =, during WITH &&));
INSERT INTO stays VALUES (1, 1, '[2026-01-10,2026-01-20)');
CREATE TABLE wages (id int, name text, amount int) PARTITION BY RANGE (amount);
CREATE TABLE wages_low PARTITION OF wages FOR VALUES FROM (0) TO (50000000);
CREATE TABLE wages_high PARTITION OF wages FOR VALUES FROM (50000000) TO (99999999);
INSERT INTO wages VALUES (1, 'Ada', 62738495), (2, 'Grace', 1);
CREATE UNIQUE INDEX users_ssn ON users (ssn);
CREATE TABLE keepers (id int PRIMARY KEY, name text);
CREATE TABLE cards (
    id int PRIMARY KEY, ssn text REFERENCES users (ssn), note text, keeper int REFERENCES keepers ON DELETE CASCADE
);
CREATE UNIQUE INDEX cards_key ON cards (ssn);
INSERT INTO cards SELECT id, ssn FROM users;
CREATE TABLE prints (id int PRIMARY KEY, ssn text REFERENCES cards (ssn));
INSERT INTO prints SELECT id, ssn FROM cards;
ANALYZE;
