/* The compiled twin of proxy/postgres/turns.py, which says what each function does and is the oracle of its
   tests. None where the bytes are anything out of the ordinary: then the messages are read one by one. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { MOST_NAME = 63, MOST_BYTES = 65536, MOST_VALUE = 4096, SHORT = 2, LONG = 4 };

typedef struct {
    const unsigned char *data;
    Py_ssize_t size, at;
} Reader;

typedef struct {
    int kind;
    Reader body;
} Message;

static PyObject *none(void)
{
    Py_INCREF(Py_None);
    return Py_None;
}

static int open_bytes(PyObject *bytes, Reader *reader)
{
    char *data;
    reader->at = 0;
    if (PyBytes_AsStringAndSize(bytes, &data, &reader->size) < 0)
        return -1;
    reader->data = (const unsigned char *)data;
    return 0;
}

/* A number of SHORT or LONG bytes; -1 where there is none. */
static int64_t number(Reader *reader, int bytes)
{
    int64_t value = 0;
    if (reader->size - reader->at < bytes)
        return -1;
    while (bytes-- > 0)
        value = value << 8 | reader->data[reader->at++];
    return value;
}

/* The size of the string that ends with a NUL; `at` is behind that. -1 where there is none. */
static Py_ssize_t string(Reader *reader)
{
    const unsigned char *begin = reader->data + reader->at, *end = NULL;
    if (reader->at < reader->size)
        end = memchr(begin, 0, (size_t)(reader->size - reader->at));
    if (end == NULL)
        return -1;
    reader->at += end - begin + 1;
    return end - begin;
}

/* The next message, if it is whole and its kind is `wanted` (0: any). */
static int message(Reader *chunk, int wanted, Message *found)
{
    Reader ahead = *chunk;
    if (ahead.size - ahead.at < 5)
        return 0;
    found->kind = ahead.data[ahead.at++];
    int64_t length = number(&ahead, LONG) - 4;
    if ((wanted && found->kind != wanted) || length < 0 || length > ahead.size - ahead.at)
        return 0;
    found->body.data = ahead.data + ahead.at;
    found->body.size = (Py_ssize_t)length;
    found->body.at = 0;
    chunk->at = ahead.at + (Py_ssize_t)length;
    return 1;
}

static int at_end(const Reader *reader)
{
    return reader->at == reader->size;
}

static PyObject *read_query(PyObject *module, PyObject *bytes)
{
    Reader chunk;
    Message query;
    (void)module;
    if (open_bytes(bytes, &chunk) < 0)
        return NULL;
    if (!message(&chunk, 'Q', &query) || !at_end(&chunk))
        return none();
    Py_ssize_t size = string(&query.body);
    if (size < 0 || !at_end(&query.body))
        return none();
    return PyBytes_FromStringAndSize((const char *)query.body.data, size);
}

static int same_name(Reader *body, const unsigned char *name, Py_ssize_t size)
{
    Py_ssize_t at = body->at;
    return string(body) == size && memcmp(body->data + at, name, (size_t)size) == 0;
}

static PyObject *read_batch(PyObject *module, PyObject *bytes)
{
    Reader chunk;
    Message parse, bind, describe, execute, sync;
    const char *text = NULL, *types = NULL;
    Py_ssize_t text_size = 0, types_size = 0;
    (void)module;
    if (open_bytes(bytes, &chunk) < 0)
        return NULL;
    if (message(&chunk, 'P', &parse)) {
        if (string(&parse.body) != 0) /* a name: it would outlive the batch */
            return none();
        text = (const char *)parse.body.data + 1;
        text_size = string(&parse.body);
        types = (const char *)parse.body.data + parse.body.at;
        types_size = parse.body.size - parse.body.at;
        if (text_size < 0 || types_size < 2)
            return none();
    }
    if (!message(&chunk, 'B', &bind))
        return none();
    int described = message(&chunk, 'D', &describe);
    if (!message(&chunk, 'E', &execute) || !message(&chunk, 'S', &sync) || !at_end(&chunk) || sync.body.size != 0)
        return none();
    const unsigned char *portal = bind.body.data;
    Py_ssize_t portal_size = string(&bind.body);
    const unsigned char *statement = bind.body.data + bind.body.at;
    Py_ssize_t statement_size = portal_size < 0 ? -1 : string(&bind.body);
    if (statement_size < 0 || portal_size > MOST_NAME || statement_size > MOST_NAME || (text && statement_size))
        return none();
    if (described && (describe.body.size == 0 || describe.body.data[describe.body.at++] != 'P' ||
                      !same_name(&describe.body, portal, portal_size) || !at_end(&describe.body)))
        return none();
    if (!same_name(&execute.body, portal, portal_size) || execute.body.size - execute.body.at != LONG)
        return none();
    return Py_BuildValue("y#y#y#y#y#O", portal, portal_size, statement, statement_size, portal, bind.body.size,
                         text, text_size, types, types_size, described ? Py_True : Py_False);
}

/* The rows that a command's tag counts; -1 where the number is too long to be one. */
static int64_t counted(const unsigned char *tag, Py_ssize_t size)
{
    Py_ssize_t at = size;
    int64_t rows = 0;
    while (at > 0 && tag[at - 1] != ' ')
        at--;
    if (size - at > 18)
        return -1;
    for (; at < size; at++) {
        if (tag[at] < '0' || tag[at] > '9')
            return 0;
        rows = rows * 10 + tag[at] - '0';
    }
    return rows;
}

static PyObject *read_answer(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Reader chunk;
    Message it, described, ready;
    (void)module;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "read_answer takes a chunk and the kinds ahead");
        return NULL;
    }
    Reader ahead;
    if (open_bytes(args[0], &chunk) < 0 || open_bytes(args[1], &ahead) < 0)
        return NULL;
    for (; !at_end(&ahead); ahead.at++)
        if (!message(&chunk, ahead.data[ahead.at], &it) || it.body.size != 0)
            return none();
    described.body.data = NULL;
    described.body.size = 0;
    if (message(&chunk, 'T', &described))
        while (message(&chunk, 'D', &it))
            ;
    else {
        described.body.data = NULL;
        if (ahead.size && (!message(&chunk, 'n', &it) || it.body.size != 0))
            return none();
    }
    if (!message(&chunk, 'C', &it))
        return none();
    Py_ssize_t tag = string(&it.body);
    int64_t rows = tag < 0 ? -1 : counted(it.body.data, tag);
    if (rows < 0 || !at_end(&it.body) || !message(&chunk, 'Z', &ready) || ready.body.size != 1 || !at_end(&chunk))
        return none();
    return Py_BuildValue("y#y#Li", (const char *)described.body.data, described.body.size,
                         (const char *)it.body.data, tag, (long long)rows, (int)ready.body.data[0]);
}

/* ---- the key of a text ---- */

static int plain(unsigned char c)
{
    return c == '\t' || c == '\n' || c == '\r' || (c >= ' ' && c < 127 && c != '\'' && c != '"' && c != '\\' && c != '$');
}

static int digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

static int joined(unsigned char c) /* what makes a digit beside it part of a word or another number */
{
    return digit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c == '$' || c == '.';
}

static PyObject *key(PyObject *module, PyObject *bytes)
{
    Reader text;
    (void)module;
    if (open_bytes(bytes, &text) < 0)
        return NULL;
    const unsigned char *data = text.data;
    Py_ssize_t size = text.size, used = 0, at = 0;
    char small[1024], *out = small;
    if (size > (Py_ssize_t)sizeof small && (out = PyMem_Malloc((size_t)size)) == NULL)
        return PyErr_NoMemory();
    PyObject *result = NULL;
    while (at < size) {
        unsigned char c = data[at];
        if (!plain(c) || (at + 1 < size && ((c == '-' && data[at + 1] == '-') || (c == '/' && data[at + 1] == '*')))) {
            result = none();
            break;
        }
        Py_ssize_t end = at + 1;
        if (digit(c) && (at == 0 || !joined(data[at - 1]))) {
            while (end < size && digit(data[end]))
                end++;
            if (end + 1 < size && data[end] == '.' && digit(data[end + 1]))
                for (end += 2; end < size && digit(data[end]);)
                    end++;
            if (end < size && joined(data[end]))
                end = at + 1; /* no number: it stays */
            else
                c = '0';
        }
        out[used++] = (char)c;
        at = end;
    }
    if (result == NULL)
        result = PyBytes_FromStringAndSize(out, used);
    if (out != small)
        PyMem_Free(out);
    return result;
}

/* ---- the recording's line ---- */

static char *put(char *to, const char *text)
{
    size_t size = strlen(text);
    memcpy(to, text, size);
    return to + size;
}

/* At most six bytes each. NULL where a byte is not ASCII, which is left to Python. */
static char *put_escaped(char *to, const unsigned char *text, Py_ssize_t size)
{
    static const char hex[] = "0123456789abcdef";
    *to++ = '"';
    for (Py_ssize_t i = 0; i < size; i++) {
        unsigned char c = text[i];
        if (c >= 128)
            return NULL;
        if (c >= ' ' && c != '"' && c != '\\') {
            *to++ = (char)c;
            continue;
        }
        *to++ = '\\';
        if (c == '"' || c == '\\')
            *to++ = (char)c;
        else {
            to = put(to, "u00");
            *to++ = hex[c >> 4];
            *to++ = hex[c & 15];
        }
    }
    *to++ = '"';
    return to;
}

static char *put_number(char *to, int64_t value)
{
    char digits[20];
    int count = 0;
    do
        digits[count++] = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    while (count > 0)
        *to++ = digits[--count];
    return to;
}

static char *put_seconds(char *to, int64_t micro)
{
    to = put_number(to, micro / 1000000);
    *to++ = '.';
    micro %= 1000000;
    for (int64_t unit = 100000; unit > 0 && (micro > 0 || unit == 100000); micro %= unit, unit /= 10)
        *to++ = (char)('0' + micro / unit);
    return to;
}

static char *put_hex(char *to, const unsigned char *value, Py_ssize_t size)
{
    static const char hex[] = "0123456789abcdef";
    to = put(to, "\"\\\\x");
    for (Py_ssize_t i = 0; i < size; i++) {
        *to++ = hex[value[i] >> 4];
        *to++ = hex[value[i] & 15];
    }
    *to++ = '"';
    return to;
}

/* A Bind's values as a list. NULL where it is not whole, or a value is left to Python. */
static char *put_values(char *to, Reader *bind, int scrub)
{
    if (string(bind) < 0 || string(bind) < 0)
        return NULL;
    int64_t formats = number(bind, SHORT);
    Reader format = *bind;
    if (formats < 0 || bind->size - bind->at < 2 * formats)
        return NULL;
    bind->at += (Py_ssize_t)(2 * formats);
    int64_t count = number(bind, SHORT);
    if (count < 0 || (formats > 1 && formats != count))
        return NULL;
    if (count == 0)
        return to;
    int64_t binary = 0;
    to = put(to, ",\"parameters\":[");
    for (int64_t i = 0; i < count; i++) {
        if (i > 0)
            *to++ = ',';
        if (i < formats)
            binary = number(&format, SHORT);
        int64_t size = number(bind, LONG);
        if (size == 0xffffffff) {
            to = put(to, "null");
            continue;
        }
        if (size < 0 || size > bind->size - bind->at || size > MOST_VALUE)
            return NULL;
        const unsigned char *value = bind->data + bind->at;
        bind->at += (Py_ssize_t)size;
        if (scrub)
            to = put(to, "\"(masked)\"");
        else if (binary)
            to = put_hex(to, value, (Py_ssize_t)size);
        else if ((to = put_escaped(to, value, (Py_ssize_t)size)) == NULL)
            return NULL;
    }
    *to++ = ']';
    return to;
}

static PyObject *line(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Reader text, tag, bind;
    Py_ssize_t class_size;
    (void)module;
    if (count != 9) {
        PyErr_SetString(PyExc_TypeError, "line takes nine arguments");
        return NULL;
    }
    long long n = PyLong_AsLongLong(args[0]);
    double at = PyFloat_AsDouble(args[1]), took = PyFloat_AsDouble(args[2]);
    long long rows = PyLong_AsLongLong(args[5]);
    int scrub = PyObject_IsTrue(args[7]);
    const char *class = PyUnicode_AsUTF8AndSize(args[8], &class_size);
    if (PyErr_Occurred() || open_bytes(args[3], &text) < 0 || open_bytes(args[4], &tag) < 0 ||
        open_bytes(args[6], &bind) < 0)
        return NULL;
    if (!(at >= 0 && at < 1e9 && took >= 0 && took < 1e9) || n < 0 || rows < 0 ||
        text.size + tag.size + bind.size + class_size > MOST_BYTES)
        return none();
    char small[4096], *begin = small;
    size_t room = 512 + 6 * (size_t)(text.size + tag.size + bind.size + class_size);
    if (room > sizeof small && (begin = PyMem_Malloc(room)) == NULL)
        return PyErr_NoMemory();
    PyObject *result = NULL;
    char *to = put_number(put(begin, "{\"kind\":\"statement\",\"n\":"), n);
    to = put_seconds(put(to, ",\"at\":"), (int64_t)(at * 1e6));
    to = put_escaped(put(to, ",\"text\":"), text.data, text.size);
    if (to == NULL)
        goto done;
    to = put(to, ",\"outcome\":\"ok\"");
    int64_t micro = (int64_t)(took * 1e6);
    if (micro > 0)
        to = put_seconds(put(to, ",\"took\":"), micro);
    if (tag.size > 0 && (to = put_escaped(put(to, ",\"tag\":"), tag.data, tag.size)) == NULL)
        goto done;
    if (rows > 0)
        to = put_number(put(to, ",\"rows\":"), rows);
    if (bind.size > 0 && (to = put_values(to, &bind, scrub)) == NULL)
        goto done;
    if (class_size > 0 &&
        (to = put_escaped(put(to, ",\"verdict\":"), (const unsigned char *)class, class_size)) == NULL)
        goto done;
    to = put(to, "}\n");
    result = PyBytes_FromStringAndSize(begin, to - begin);
done:
    if (begin != small)
        PyMem_Free(begin);
    return result == NULL && !PyErr_Occurred() ? none() : result;
}

static PyMethodDef methods[] = {
    {"read_query", read_query, METH_O, "See proxy/postgres/turns.py."},
    {"read_batch", read_batch, METH_O, "See proxy/postgres/turns.py."},
    {"read_answer", (PyCFunction)(void (*)(void))read_answer, METH_FASTCALL, "See proxy/postgres/turns.py."},
    {"key", key, METH_O, "See proxy/postgres/turns.py."},
    {"line", (PyCFunction)(void (*)(void))line, METH_FASTCALL, "See proxy/postgres/turns.py."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_turns", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__turns(void)
{
    return PyModule_Create(&module);
}
