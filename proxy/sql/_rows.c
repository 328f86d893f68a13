/* The compiled twin of proxy/sql/rows.py, which says what it does and is the oracle of its tests.

   rewrite(chunk, width, replacements, whatever, last4, email) -> bytes
   Raises ValueError where the bytes are no run of whole DataRows of that width. `last4` and `email` are the
   Python functions of these methods: met as a replacement, they are done here for ASCII values, and called for
   others. Any other callable is called with the value.

   rewrite_binary_copy and rewrite_copy do the same for CopyData messages of one row each; see
   proxy/sql/copy_rows.py. */

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

/* Whether the columns from `place` on fill the row up to `end`. */
static int fills(const unsigned char *data, int64_t place, int64_t end, int64_t columns)
{
    while (columns-- > 0) {
        if (place + 4 > end)
            return 0;
        int32_t size = (int32_t)read32(data + place);
        if (size < -1)
            return 0;
        place += 4 + (size > 0 ? (int64_t)size : 0);
    }
    return place == end;
}

/* One row from data[0] on, of at most `left` bytes, under that tag: a DataRow, or a row of a binary COPY. Gives
   its size, or -1. */
static int64_t row(Out *out, const unsigned char *data, int64_t left, char tag, long width, const Change *changes,
                   Py_ssize_t count)
{
    if (left < 7)
        return broken();
    uint32_t length = read32(data + 1);
    int64_t end = 1 + (int64_t)length;
    if (data[0] != tag || ((long)data[5] << 8 | data[6]) != width || end > left || length < 6)
        return broken();
    if (tag == 'd' && !fills(data, 7, end, width)) /* what CopyData holds may be anything */
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

static PyObject *rewritten(PyObject *args, char tag)
{
    Py_buffer chunk;
    long width;
    PyObject *replacements, *whatever, *last4, *email, *result = NULL;
    Out out = {NULL, 0, 0};
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
        int64_t size = row(&out, (const unsigned char *)chunk.buf + at, (int64_t)chunk.len - at, tag, width, changes,
                           count);
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

static PyObject *rewrite(PyObject *module, PyObject *args)
{
    (void)module;
    return rewritten(args, 'D');
}

static PyObject *rewrite_binary_copy(PyObject *module, PyObject *args)
{
    (void)module;
    return rewritten(args, 'd');
}

/* ---- COPY in text and CSV ---- */

typedef struct {
    int csv;
    unsigned char delimiter, quote, escape;
    const char *null; /* NULL where a NULL cannot be told from a value */
    Py_ssize_t null_size;
} Form;

typedef struct {
    Py_ssize_t index;
    int how, whatever;
    PyObject *callable; /* gives the field that stands instead of a field, or None to keep it */
    const char *bytes;  /* FIXED: the field as it is written */
    Py_ssize_t size;
} Field;

/* Where the field from data[place] on ends: at a delimiter or a line feed, at most at `end`. -1 where it does
   not. `plain` tells that the value is the field itself. */
static int64_t field_end(const unsigned char *data, int64_t place, int64_t end, const Form *form, int *plain)
{
    *plain = 1;
    if (!form->csv) {
        for (; place < end; place++) {
            if (data[place] == form->delimiter || data[place] == '\n')
                return place;
            if (data[place] == '\\') {
                *plain = 0;
                if (++place >= end || data[place] == '\n')
                    return -1;
            }
        }
        return -1;
    }
    if (place < end && data[place] == form->quote) {
        *plain = 0;
        for (place++; place < end; place++) {
            int more = place + 1 < end;
            if (data[place] == form->escape && form->escape != form->quote) {
                if (!more)
                    return -1;
                place++;
            } else if (data[place] == form->quote) {
                if (form->escape == form->quote && more && data[place + 1] == form->quote)
                    place++;
                else
                    return more && (data[place + 1] == form->delimiter || data[place + 1] == '\n') ? place + 1 : -1;
            }
        }
        return -1;
    }
    for (; place < end; place++) {
        if (data[place] == form->delimiter || data[place] == '\n')
            return place;
        if (data[place] == form->quote || data[place] == '\r')
            return -1;
    }
    return -1;
}

static int put_field(Out *out, const Field *field, const Form *form, const unsigned char *value, int64_t size,
                     int plain)
{
    int is_null = form->null != NULL && size == form->null_size && memcmp(value, form->null, (size_t)size) == 0;
    if (is_null && !field->whatever)
        return put(out, (const char *)value, (size_t)size);
    if (field->how == FIXED)
        return put(out, field->bytes, (size_t)field->size);
    if (plain && !is_null && field->how != CALL && is_ascii(value, size)) {
        size_t head = out->used; /* these put a length ahead of the value */
        if ((field->how == LAST4 ? put_last4(out, value, size) : put_email(out, value, size)) < 0)
            return -1;
        out->used -= 4;
        memmove(out->data + head, out->data + head + 4, out->used - head);
        return 0;
    }
    char *bytes;
    Py_ssize_t length;
    PyObject *new = PyObject_CallFunction(field->callable, "y#", (const char *)value, (Py_ssize_t)size);
    if (new == NULL)
        return -1;
    int failed;
    if (new == Py_None)
        failed = put(out, (const char *)value, (size_t)size);
    else
        failed = PyBytes_AsStringAndSize(new, &bytes, &length) < 0 ? -1 : put(out, bytes, (size_t)length);
    Py_DECREF(new);
    return failed;
}

/* One CopyData message from data[0] on that is one row. Gives its size, or -1. */
static int64_t line(Out *out, const unsigned char *data, int64_t left, long width, const Form *form,
                    const Field *fields, Py_ssize_t count)
{
    if (left < 5)
        return broken();
    uint32_t length = read32(data + 1);
    int64_t end = 1 + (int64_t)length, place = 5, kept = 0;
    if (data[0] != 'd' || length < 5 || end > left || width < 1)
        return broken();
    size_t head = out->used;
    Py_ssize_t next = 0;
    for (long column = 0; column < width; column++) {
        int plain;
        int64_t stop = field_end(data, place, end, form, &plain);
        if (stop < 0 || data[stop] != (column == width - 1 ? '\n' : form->delimiter))
            return broken();
        if (next < count && fields[next].index == column) {
            if (put(out, (const char *)data + kept, (size_t)(place - kept)) < 0 ||
                put_field(out, &fields[next], form, data + place, stop - place, plain) < 0)
                return -1;
            kept = stop;
            next++;
        }
        place = stop + 1;
    }
    if (place != end)
        return broken();
    if (put(out, (const char *)data + kept, (size_t)(end - kept)) < 0)
        return -1;
    write32(out->data + head + 1, (uint32_t)(out->used - head - 1));
    return end;
}

static PyObject *rewrite_copy(PyObject *module, PyObject *args)
{
    Py_buffer chunk;
    long width;
    Form form;
    PyObject *list, *last4, *email, *result = NULL;
    Out out = {NULL, 0, 0};
    (void)module;
    if (!PyArg_ParseTuple(args, "y*lO!OOpcccz#", &chunk, &width, &PyTuple_Type, &list, &last4, &email, &form.csv,
                          &form.delimiter, &form.quote, &form.escape, &form.null, &form.null_size))
        return NULL;
    Py_ssize_t count = PyTuple_Size(list);
    Field *fields = PyMem_Calloc((size_t)count + 1, sizeof(Field));
    if (fields == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        Field *field = &fields[i];
        PyObject *new;
        if (!PyArg_ParseTuple(PyTuple_GetItem(list, i), "nOOp", &field->index, &new, &field->callable, &field->whatever))
            goto done;
        if (PyBytes_Check(new)) {
            field->how = FIXED;
            if (PyBytes_AsStringAndSize(new, (char **)&field->bytes, &field->size) < 0)
                goto done;
        } else
            field->how = new == last4 ? LAST4 : new == email ? EMAIL : CALL;
    }
    if (reserve(&out, (size_t)chunk.len + 64) < 0)
        goto done;
    for (int64_t at = 0; at < (int64_t)chunk.len;) {
        int64_t size = line(&out, (const unsigned char *)chunk.buf + at, (int64_t)chunk.len - at, width, &form, fields,
                            count);
        if (size < 0)
            goto done;
        at += size;
    }
    result = PyBytes_FromStringAndSize(out.data, (Py_ssize_t)out.used);
done:
    PyMem_Free(fields);
    PyMem_Free(out.data);
    PyBuffer_Release(&chunk);
    return result;
}

static PyMethodDef methods[] = {
    {"rewrite", rewrite, METH_VARARGS, "See proxy/sql/rows.py."},
    {"rewrite_binary_copy", rewrite_binary_copy, METH_VARARGS, "See proxy/sql/copy_rows.py."},
    {"rewrite_copy", rewrite_copy, METH_VARARGS, "See proxy/sql/copy_rows.py."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_rows", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__rows(void)
{
    return PyModule_Create(&module);
}
