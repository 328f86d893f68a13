/* The compiled twin of proxy/sql/rows.py, which says what it does and is the oracle of its tests.

   rewrite(chunk, width, replacements, whatever, last4, email) -> bytes
   Raises ValueError where the bytes are no run of whole DataRows of that width. `last4` and `email` are the
   Python functions of these methods: met as a replacement, they are done here for ASCII values, and called for
   others. Any other callable is called with the value. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    char *data;
    size_t used, room;
} Out;

enum { FIXED, NOTHING, LAST4, EMAIL, CALL };

typedef struct {
    Py_ssize_t index;
    int how, whatever;
    PyObject *callable; /* borrowed from the plan, which the caller holds */
    const char *bytes;
    Py_ssize_t size;
} Change;

static int reserve(Out *out, size_t more)
{
    if (more <= out->room - out->used)
        return 0;
    size_t room = out->room + out->room / 2 + more;
    char *data = PyMem_Realloc(out->data, room);
    if (data == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    out->data = data;
    out->room = room;
    return 0;
}

static int put(Out *out, const char *bytes, size_t size)
{
    if (reserve(out, size) < 0)
        return -1;
    memcpy(out->data + out->used, bytes, size);
    out->used += size;
    return 0;
}

static void write32(char *place, uint32_t value)
{
    place[0] = (char)(value >> 24);
    place[1] = (char)(value >> 16);
    place[2] = (char)(value >> 8);
    place[3] = (char)value;
}

static uint32_t read32(const unsigned char *place)
{
    return (uint32_t)place[0] << 24 | (uint32_t)place[1] << 16 | (uint32_t)place[2] << 8 | place[3];
}

static int put_value(Out *out, const char *bytes, Py_ssize_t size)
{
    char length[4];
    write32(length, (uint32_t)size);
    return put(out, length, 4) < 0 ? -1 : put(out, bytes, (size_t)size);
}

static int is_ascii(const unsigned char *value, int64_t size)
{
    unsigned char seen = 0;
    for (int64_t i = 0; i < size; i++)
        seen |= value[i];
    return seen < 128;
}

static int put_last4(Out *out, const unsigned char *value, int64_t size)
{
    char shown[7] = "***";
    if (size < 8)
        return put_value(out, shown, 3);
    memcpy(shown + 3, value + size - 4, 4);
    return put_value(out, shown, 7);
}

static int put_email(Out *out, const unsigned char *value, int64_t size)
{
    char shown[] = "?***@***";
    int64_t at = size - 1;
    while (at >= 0 && value[at] != '@')
        at--;
    if (at < 2)
        return put_value(out, "***", 3);
    shown[0] = (char)value[0];
    return put_value(out, shown, 8);
}

static int put_called(Out *out, PyObject *callable, const unsigned char *value, int64_t size)
{
    char *bytes;
    Py_ssize_t length;
    PyObject *given = PyBytes_FromStringAndSize((const char *)value, (Py_ssize_t)size);
    if (given == NULL)
        return -1;
    PyObject *new = PyObject_CallFunctionObjArgs(callable, given, NULL);
    Py_DECREF(given);
    if (new == NULL)
        return -1;
    int failed;
    if (new == Py_None)
        failed = put(out, "\xff\xff\xff\xff", 4);
    else
        failed = PyBytes_AsStringAndSize(new, &bytes, &length) < 0 ? -1 : put_value(out, bytes, length);
    Py_DECREF(new);
    return failed;
}

static int put_changed(Out *out, const Change *change, const unsigned char *value, int64_t size)
{
    switch (change->how) {
    case FIXED:
        return put_value(out, change->bytes, change->size);
    case NOTHING:
        return put(out, "\xff\xff\xff\xff", 4);
    case LAST4:
        if (is_ascii(value, size))
            return put_last4(out, value, size);
        break;
    case EMAIL:
        if (is_ascii(value, size))
            return put_email(out, value, size);
        break;
    }
    return put_called(out, change->callable, value, size);
}

static int broken(void)
{
    PyErr_SetString(PyExc_ValueError, "not a DataRow of this shape");
    return -1;
}

/* One row from data[0] on, of at most `left` bytes. Gives its size, or -1. */
static int64_t row(Out *out, const unsigned char *data, int64_t left, long width, const Change *changes,
                   Py_ssize_t count)
{
    if (left < 7)
        return broken();
    uint32_t length = read32(data + 1);
    int64_t end = 1 + (int64_t)length;
    if (data[0] != 'D' || ((long)data[5] << 8 | data[6]) != width || end > left || length < 6)
        return broken();
    size_t head = out->used;
    int64_t place = 7, kept = 0; /* data[kept:place] is unchanged and not yet put: the head at first */
    Py_ssize_t column = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        const Change *change = &changes[i];
        int32_t size;
        for (; column < change->index; column++) {
            if (place + 4 > end)
                return broken();
            size = (int32_t)read32(data + place);
            place += 4 + (size > 0 ? (int64_t)size : 0);
        }
        if (place + 4 > end)
            return broken();
        size = (int32_t)read32(data + place);
        int64_t value_end = place + 4 + (size > 0 ? (int64_t)size : 0);
        if (value_end > end)
            return broken();
        if (size >= 0 || change->whatever) {
            if (put(out, (const char *)data + kept, (size_t)(place - kept)) < 0 ||
                put_changed(out, change, data + place + 4, value_end - place - 4) < 0)
                return -1;
            kept = value_end;
        }
        place = value_end;
        column++;
    }
    if (kept < end && put(out, (const char *)data + kept, (size_t)(end - kept)) < 0)
        return -1;
    write32(out->data + head + 1, (uint32_t)(out->used - head - 1));
    return end;
}

static int read_change(Change *change, PyObject *pair, PyObject *whatever, PyObject *last4, PyObject *email)
{
    PyObject *index, *new;
    if (!PyArg_ParseTuple(pair, "OO", &index, &new))
        return -1;
    change->index = PyLong_AsSsize_t(index);
    if (change->index == -1 && PyErr_Occurred())
        return -1;
    change->whatever = PySequence_Contains(whatever, index);
    if (change->whatever < 0)
        return -1;
    change->callable = new;
    if (new == Py_None)
        change->how = NOTHING;
    else if (PyBytes_Check(new)) {
        change->how = FIXED;
        return PyBytes_AsStringAndSize(new, (char **)&change->bytes, &change->size);
    } else
        change->how = new == last4 ? LAST4 : new == email ? EMAIL : CALL;
    return 0;
}

static PyObject *rewrite(PyObject *module, PyObject *args)
{
    Py_buffer chunk;
    long width;
    PyObject *replacements, *whatever, *last4, *email, *result = NULL;
    Out out = {NULL, 0, 0};
    (void)module;
    if (!PyArg_ParseTuple(args, "y*lO!OOO", &chunk, &width, &PyTuple_Type, &replacements, &whatever, &last4, &email))
        return NULL;
    Py_ssize_t count = PyTuple_Size(replacements);
    Change *changes = PyMem_Calloc((size_t)count + 1, sizeof(Change));
    if (changes == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (read_change(&changes[i], PyTuple_GetItem(replacements, i), whatever, last4, email) < 0)
            goto done;
    if (reserve(&out, (size_t)chunk.len + 64) < 0)
        goto done;
    for (int64_t at = 0; at < (int64_t)chunk.len;) {
        int64_t size = row(&out, (const unsigned char *)chunk.buf + at, (int64_t)chunk.len - at, width, changes, count);
        if (size < 0)
            goto done;
        at += size;
    }
    result = PyBytes_FromStringAndSize(out.data, (Py_ssize_t)out.used);
done:
    PyMem_Free(changes);
    PyMem_Free(out.data);
    PyBuffer_Release(&chunk);
    return result;
}

static PyMethodDef methods[] = {{"rewrite", rewrite, METH_VARARGS, "See proxy/sql/rows.py."}, {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_rows", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__rows(void)
{
    return PyModule_Create(&module);
}
