// node-postgres and its companions, each test with a connection of its own. The npm packages hold no tests.
'use strict'
const test = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')
const pg = require('pg')
const Cursor = require('pg-cursor')
const QueryStream = require('pg-query-stream')
const copy = require('pg-copy-streams')

const settings = (more = {}) => ({
  ssl: { ca: fs.readFileSync(process.env.PGSSLROOTCERT, 'utf8') },
  application_name: 'proof',
  ...more,
})

const connected = (name, body, more) =>
  test(name, { timeout: 30000 }, async () => {
    const client = new pg.Client(settings(more))
    await client.connect()
    client.on('error', () => {})
    try {
      await body(client)
    } finally {
      await client.end().catch(() => {})
    }
  })

connected('a simple query', async (db) => {
  const { rows, fields } = await db.query('select 1 as a, null as b, $$x$$ as c')
  assert.deepEqual(rows, [{ a: 1, b: null, c: 'x' }])
  assert.equal(fields[0].dataTypeID, 23)
})

connected('parameters of many types', async (db) => {
  const values = [1, '9007199254740993', 1.5, true, 'ünï', new Date(0), Buffer.from([0, 1, 255]), { a: [1] }, [1, 2], null]
  const { rows } = await db.query(
    'select $1::int a, $2::bigint b, $3::float8 c, $4::bool d, $5::text e, $6::timestamptz f, $7::bytea g, $8::jsonb h, $9::int[] i, $10::text j',
    values,
  )
  assert.deepEqual(Object.values(rows[0]), values)
})

connected('a named statement, run twice', async (db) => {
  for (const n of [1, 2]) {
    const { rows } = await db.query({ name: 'twice', text: 'select $1::int * 2 as n', values: [n] })
    assert.equal(rows[0].n, n * 2)
  }
})

connected('binary results', async (db) => {
  const { rows } = await db.query({ text: 'select 42 as n', binary: true, values: [] })
  assert.equal(rows[0].n, 42)
})

connected('rows as arrays', async (db) => {
  const { rows } = await db.query({ text: 'select 1, 2', rowMode: 'array' })
  assert.deepEqual(rows, [[1, 2]])
})

connected('many statements in one query', async (db) => {
  const results = await db.query('select 1 as a; create temp table t (a int); insert into t values (1), (2); select * from t')
  assert.deepEqual(results.map((it) => it.command), ['SELECT', 'CREATE', 'INSERT', 'SELECT'])
  assert.equal(results[2].rowCount, 2)
})

connected('an error has all its fields', async (db) => {
  await db.query('create temp table u (a int constraint only_one unique)')
  await db.query('insert into u values (1)')
  await assert.rejects(db.query('insert into u values ($1)', [1]), (error) => {
    assert.deepEqual(
      [error.code, error.severity, error.table, error.constraint, error.routine],
      ['23505', 'ERROR', 'u', 'only_one', '_bt_check_unique'],
    )
    assert.match(error.detail, /Key \(a\)=\(1\) already exists/)
    return true
  })
  assert.equal((await db.query('select 1 as a')).rows[0].a, 1)
})

connected('an error of a prepared statement leaves the connection usable', async (db) => {
  await assert.rejects(db.query('select $1::int', ['x']), { code: '22P02' })
  await assert.rejects(db.query('select nothing', []), { code: '42703' })
  assert.equal((await db.query('select $1::int as a', [7])).rows[0].a, 7)
})

connected('a transaction is rolled back', async (db) => {
  await db.query('create temp table r (a int)')
  await db.query('begin')
  await db.query('insert into r values (1)')
  await assert.rejects(db.query('select 1/0'), { code: '22012' })
  await assert.rejects(db.query('select 1'), { code: '25P02' })
  await db.query('rollback')
  assert.equal((await db.query('select * from r')).rowCount, 0)
})

connected('notifications carry the sender\'s pid', async (db) => {
  const heard = new Promise((resolve) => db.once('notification', resolve))
  await db.query('listen news')
  await db.query("notify news, 'hello'")
  const it = await heard
  assert.deepEqual([it.channel, it.payload, it.processId], ['news', 'hello', db.processID])
})

connected('notices arrive', async (db) => {
  const heard = new Promise((resolve) => db.once('notice', resolve))
  await db.query("do $$ begin raise warning 'careful'; end $$")
  assert.equal((await heard).message, 'careful')
})

connected('many queries without waiting', async (db) => {
  const results = await Promise.all(Array.from({ length: 200 }, (_, n) => db.query('select $1::int as n', [n])))
  assert.deepEqual(results.map((it) => it.rows[0].n), Array.from({ length: 200 }, (_, n) => n))
})

connected('a pipeline of queries, one of which fails', async (db) => {
  const ends = await Promise.allSettled([
    db.query('select 1 as n', []),
    db.query('select 1/$1::int', [0]),
    db.query('select 3 as n', []),
  ])
  assert.deepEqual(ends.map((it) => it.status), ['fulfilled', 'rejected', 'fulfilled'])
})

connected('a query is cancelled by its timeout', async (db) => {
  await assert.rejects(db.query('select pg_sleep(20)'), { code: '57014' })
}, { statement_timeout: 200 })

connected('a query is cancelled by a cancel request', async (db) => {
  const refused = assert.rejects(db.query('select pg_sleep(20)'), { code: '57014' })
  const other = new pg.Client(settings())
  await other.connect()
  await other.query('select pg_cancel_backend($1)', [db.processID])
  await other.end()
  await refused
})

connected('settings of the connection reach the server', async (db) => {
  const { rows } = await db.query("select current_setting('application_name') a, current_setting('search_path') b, current_setting('lock_timeout') c")
  assert.deepEqual(rows, [{ a: 'other', b: 'pg_catalog', c: '5s' }])
}, { application_name: 'other', options: '-c search_path=pg_catalog', lock_timeout: 5000 })

test('a wrong password is 28P01', async () => {
  const client = new pg.Client(settings({ password: 'wrong' }))
  await assert.rejects(client.connect(), { code: '28P01' })
})

test('a pool of ten', async () => {
  const pool = new pg.Pool(settings({ max: 10 }))
  const results = await Promise.all(Array.from({ length: 100 }, (_, n) => pool.query('select $1::int as n, pg_backend_pid() as pid', [n])))
  assert.equal(new Set(results.map((it) => it.rows[0].pid)).size, 10)
  await pool.end()
})

connected('a terminated connection says so', async (db) => {
  const gone = new Promise((resolve) => db.once('error', resolve))
  await assert.rejects(db.query('select pg_terminate_backend(pg_backend_pid())'), { code: '57P01' })
  await gone
})

connected('a cursor reads in portions', async (db) => {
  const cursor = db.query(new Cursor('select n from generate_series(1, 25) n where n > $1', [5]))
  const sizes = []
  for (let rows = await cursor.read(7); rows.length; rows = await cursor.read(7)) sizes.push(rows.length)
  assert.deepEqual(sizes, [7, 7, 6])
  await cursor.close()
})

connected('a cursor is closed early and the connection used on', async (db) => {
  const cursor = db.query(new Cursor('select n from generate_series(1, 1000) n'))
  assert.equal((await cursor.read(3)).length, 3)
  await cursor.close()
  assert.equal((await db.query('select 5 as n')).rows[0].n, 5)
})

connected('a cursor over something that fails half-way', async (db) => {
  const cursor = db.query(new Cursor('select 10 / (5 - n) from generate_series(1, 9) n'))
  await cursor.read(3)
  await assert.rejects(cursor.read(5), { code: '22012' })
  assert.equal((await db.query('select 5 as n')).rows[0].n, 5)
})

connected('a query stream of a hundred thousand rows', async (db) => {
  let sum = 0
  for await (const row of db.query(new QueryStream('select n from generate_series(1, 100000) n', [], { batchSize: 500 }))) sum += row.n
  assert.equal(sum, 5000050000)
})

connected('a query stream is destroyed early', async (db) => {
  const stream = db.query(new QueryStream('select n from generate_series(1, 100000) n'))
  for await (const row of stream) if (row.n === 10) break
  assert.equal((await db.query('select 5 as n')).rows[0].n, 5)
})

connected('copy in and out', async (db) => {
  await db.query('create temp table c (a int, b text)')
  const lines = Array.from({ length: 20000 }, (_, n) => `${n}\tvalue ${n}\n`)
  const into = db.query(copy.from('copy c from stdin'))
  await pipeline(Readable.from(lines), into)
  assert.equal(into.rowCount, 20000)
  const out = []
  for await (const chunk of db.query(copy.to('copy (select * from c order by a) to stdout'))) out.push(chunk)
  assert.equal(Buffer.concat(out).toString(), lines.join(''))
})

connected('copy in of something that is no number', async (db) => {
  await db.query('create temp table c (a int)')
  await assert.rejects(pipeline(Readable.from(['1\n', 'x\n']), db.query(copy.from('copy c from stdin'))), { code: '22P02' })
  assert.equal((await db.query('select count(*)::int as n from c')).rows[0].n, 0)
})

connected('copy in given up by the client', async (db) => {
  await db.query('create temp table c (a int)')
  const into = db.query(copy.from('copy c from stdin'))
  const failed = new Promise((resolve) => into.once('error', resolve))
  into.write('1\n')
  into.destroy(new Error('no more'))
  await failed
  assert.equal((await db.query('select count(*)::int as n from c')).rows[0].n, 0)
})

connected('ten megabytes both ways', async (db) => {
  const big = 'x'.repeat(10 << 20)
  assert.equal((await db.query('select $1::text as big', [big])).rows[0].big, big)
})

connected('an empty query', async (db) => {
  assert.equal((await db.query('')).rowCount, null)
  assert.equal((await db.query('', [])).rowCount, null)
})

connected('a function with side effects, a prepared transaction, an advisory lock', async (db) => {
  await db.query('select pg_advisory_lock(7)')
  await db.query('begin')
  await db.query("prepare transaction 'node'")
  await db.query("rollback prepared 'node'")
  assert.equal((await db.query('select pg_advisory_unlock(7) as ok')).rows[0].ok, true)
})
