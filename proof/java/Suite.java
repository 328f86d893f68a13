import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.sql.*;
import java.util.Arrays;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

/** pgJDBC as programs use it. Each test prints one line: its name, "passed" or "failed", and why. */
public class Suite {
    interface Body { void run(Connection db) throws Exception; }

    static Connection open(String... more) throws SQLException {
        Properties it = new Properties();
        it.put("user", System.getenv("PGUSER"));
        it.put("password", System.getenv("PGPASSWORD"));
        it.put("sslmode", System.getenv("PGSSLMODE"));
        it.put("sslrootcert", System.getenv("PGSSLROOTCERT"));
        for (int n = 0; n < more.length; n += 2) it.put(more[n], more[n + 1]);
        return DriverManager.getConnection(
            "jdbc:postgresql://127.0.0.1:" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), it);
    }

    static void test(String name, Body body, String... more) {
        try (Connection db = open(more)) {
            body.run(db);
            System.out.println(name + "\tpassed\t");
        } catch (Throwable error) {
            System.out.println(name + "\tfailed\t" + error.toString().replaceAll("\\s+", " "));
        }
    }

    static void same(Object is, Object due) {
        if (!due.equals(is)) throw new AssertionError(is + " instead of " + due);
    }

    static void fails(String state, Body body, Connection db) throws Exception {
        try {
            body.run(db);
        } catch (SQLException error) {
            same(error.getSQLState(), state);
            return;
        }
        throw new AssertionError("no error " + state);
    }

    static long one(Connection db, String text) throws SQLException {
        try (Statement statement = db.createStatement(); ResultSet rows = statement.executeQuery(text)) {
            rows.next();
            return rows.getLong(1);
        }
    }

    public static void main(String[] arguments) {
        for (String mode : new String[] {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"}) {
            test("select in mode " + mode, db -> {
                try (PreparedStatement it = db.prepareStatement("select ?::int + 1, ?::text, ?::bytea")) {
                    for (int n = 0; n < 12; n++) {
                        it.setInt(1, n);
                        it.setString(2, "ünï" + n);
                        it.setBytes(3, new byte[] {0, (byte) n});
                        try (ResultSet rows = it.executeQuery()) {
                            rows.next();
                            same(rows.getInt(1), n + 1);
                            same(rows.getString(2), "ünï" + n);
                            same(rows.getBytes(3)[1], (byte) n);
                        }
                    }
                }
            }, "preferQueryMode", mode);
            test("many statements in mode " + mode, db -> {
                try (Statement it = db.createStatement()) {
                    it.execute("create temp table t (a int); insert into t values (1), (2); select count(*) from t");
                    it.getMoreResults();
                    same(it.getUpdateCount(), 2);
                    it.getMoreResults();
                    ResultSet rows = it.getResultSet();
                    rows.next();
                    same(rows.getInt(1), 2);
                }
            }, "preferQueryMode", mode);
            test("an error and on in mode " + mode, db -> {
                fails("22012", it -> one(it, "select 1/0"), db);
                fails("42P01", it -> one(it, "select * from nowhere"), db);
                same(one(db, "select 7"), 7L);
            }, "preferQueryMode", mode);
        }
        test("rows in portions", db -> {
            db.setAutoCommit(false);
            try (Statement it = db.createStatement()) {
                it.setFetchSize(100);
                long sum = 0;
                try (ResultSet rows = it.executeQuery("select n from generate_series(1, 10000) n")) {
                    while (rows.next()) sum += rows.getLong(1);
                }
                same(sum, 50005000L);
            }
        });
        test("a batch", db -> {
            try (Statement it = db.createStatement()) { it.execute("create temp table b (a int primary key, t text)"); }
            try (PreparedStatement it = db.prepareStatement("insert into b values (?, ?)")) {
                for (int n = 0; n < 5000; n++) {
                    it.setInt(1, n);
                    it.setString(2, "x".repeat(100));
                    it.addBatch();
                }
                same(Arrays.stream(it.executeBatch()).sum(), 5000);
                it.setInt(1, 1);
                it.setString(2, "again");
                it.addBatch();
                fails("23505", any -> it.executeBatch(), db);
            }
            same(one(db, "select count(*) from b"), 5000L);
        });
        test("a batch rewritten to many rows", db -> {
            try (Statement it = db.createStatement()) { it.execute("create temp table b (a int)"); }
            try (PreparedStatement it = db.prepareStatement("insert into b values (?)")) {
                for (int n = 0; n < 1000; n++) { it.setInt(1, n); it.addBatch(); }
                it.executeBatch();
            }
            same(one(db, "select count(*) from b"), 1000L);
        }, "reWriteBatchedInserts", "true");
        test("generated keys", db -> {
            try (Statement it = db.createStatement()) { it.execute("create temp table g (id serial primary key, a int)"); }
            try (PreparedStatement it = db.prepareStatement("insert into g (a) values (?)", Statement.RETURN_GENERATED_KEYS)) {
                it.setInt(1, 5);
                it.executeUpdate();
                ResultSet keys = it.getGeneratedKeys();
                keys.next();
                same(keys.getInt(1), 1);
            }
        });
        test("savepoints and autosave", db -> {
            db.setAutoCommit(false);
            fails("22012", it -> one(it, "select 1/0"), db);
            same(one(db, "select 1"), 1L);
            Savepoint here = db.setSavepoint();
            fails("42703", it -> one(it, "select nothing"), db);
            db.rollback(here);
            db.commit();
        }, "autosave", "always");
        test("a statement cancelled by its timeout", db -> {
            try (Statement it = db.createStatement()) {
                it.setQueryTimeout(1);
                fails("57014", any -> it.execute("select pg_sleep(20)"), db);
            }
            same(one(db, "select 1"), 1L);
        });
        test("a statement cancelled from another thread", db -> {
            try (Statement it = db.createStatement()) {
                new Thread(() -> {
                    try { Thread.sleep(300); it.cancel(); } catch (Exception error) { throw new RuntimeException(error); }
                }).start();
                fails("57014", any -> it.execute("select pg_sleep(20)"), db);
            }
        });
        test("copy in and out", db -> {
            try (Statement it = db.createStatement()) { it.execute("create temp table c (a int, b text)"); }
            StringBuilder text = new StringBuilder();
            for (int n = 0; n < 5000; n++) text.append(n).append("\tvalue ").append(n).append('\n');
            var copy = db.unwrap(PGConnection.class).getCopyAPI();
            same(copy.copyIn("copy c from stdin", new StringReader(text.toString())), 5000L);
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            copy.copyOut("copy c to stdout", out);
            same(out.toString(), text.toString());
            fails("22P02", any -> copy.copyIn("copy c from stdin", new StringReader("x\ty\n")), db);
            var given = copy.copyIn("copy c from stdin");
            given.writeToCopy("1\tx\n".getBytes(), 0, 4);
            given.cancelCopy();
            same(one(db, "select count(*) from c"), 5000L);
        });
        test("large objects", db -> {
            db.setAutoCommit(false);
            LargeObjectManager manager = db.unwrap(PGConnection.class).getLargeObjectAPI();
            long oid = manager.createLO();
            LargeObject it = manager.open(oid, LargeObjectManager.READWRITE);
            it.write(new byte[100000]);
            it.seek(99990);
            same(it.read(100).length, 10);
            it.truncate(5);
            same(it.size(), 5);
            it.close();
            manager.delete(oid);
            db.commit();
        });
        test("notifications", db -> {
            PGConnection it = db.unwrap(PGConnection.class);
            try (Statement statement = db.createStatement()) { statement.execute("listen news"); statement.execute("notify news, 'hello'"); }
            var heard = it.getNotifications(5000);
            same(heard[0].getParameter(), "hello");
            same(heard[0].getPID(), it.getBackendPID());
        });
        test("the metadata of everything", db -> {
            DatabaseMetaData it = db.getMetaData();
            try (ResultSet rows = it.getTables(null, "pg_catalog", "%", null)) { while (rows.next()) { } }
            try (ResultSet rows = it.getColumns(null, "pg_catalog", "pg_class", "%")) { while (rows.next()) { } }
            try (ResultSet rows = it.getFunctions(null, "pg_catalog", "lower")) { while (rows.next()) { } }
            try (ResultSet rows = it.getTypeInfo()) { while (rows.next()) { } }
            same(it.getDatabaseProductName(), "PostgreSQL");
        });
        test("a function by its escape syntax", db -> {
            try (CallableStatement it = db.prepareCall("{? = call upper(?)}")) {
                it.registerOutParameter(1, Types.VARCHAR);
                it.setString(2, "ada");
                it.execute();
                same(it.getString(1), "ADA");
            }
        });
        test("read only and serializable", db -> {
            db.setReadOnly(true);
            db.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            db.setAutoCommit(false);
            fails("25006", it -> it.createStatement().execute("create table no (a int)"), db);
        });
        test("a schema and a name of its own", db -> {
            same(db.getSchema(), "pg_catalog");
            same(one(db, "select count(*) from pg_stat_activity where application_name = 'java proof'"), 1L);
        }, "currentSchema", "pg_catalog", "ApplicationName", "java proof");
    }
}
