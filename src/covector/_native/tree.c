/* How the results of an executable make the value which the function returns.
 *
 * A specification is an int (that result), None, a tuple, a list or a dict of specifications, or a
 * callable, which is given the list of all results. */
#include "covector.h"

enum { MAX_DEPTH = 64 };

enum NodeKind { NODE_RESULT, NODE_NONE, NODE_TUPLE, NODE_LIST, NODE_DICT };

typedef struct CvNode {
    enum NodeKind kind;
    Py_ssize_t count; /* children, or which result */
    PyObject *keys;   /* tuple of a dict's keys */
} Node;

/* ---- parsing ---- */

typedef struct {
    CvTree *tree;
    Py_ssize_t capacity, results;
} Parser;

static Node *
append(Parser *parser, enum NodeKind kind, Py_ssize_t count)
{
    CvTree *tree = parser->tree;
    if (tree->count == parser->capacity) {
        Py_ssize_t capacity = parser->capacity * 2 + 8;
        Node *nodes = PyMem_Realloc(tree->nodes, (size_t)capacity * sizeof(Node));
        if (nodes == NULL)
            return (Node *)PyErr_NoMemory();
        tree->nodes = nodes;
        parser->capacity = capacity;
    }
    Node *node = &tree->nodes[tree->count++];
    *node = (Node){kind, count, NULL};
    return node;
}

static int parse(Parser *parser, PyObject *spec, int depth);

static int
parse_result(Parser *parser, PyObject *spec)
{
    Py_ssize_t index = PyLong_AsSsize_t(spec);
    if (index == -1 && PyErr_Occurred())
        return -1;
    if (index < 0 || index >= parser->results) {
        PyErr_Format(PyExc_ValueError, "there is no result %zd among %zd", index, parser->results);
        return -1;
    }
    return append(parser, NODE_RESULT, index) == NULL ? -1 : 0;
}

static int
parse_items(Parser *parser, PyObject *tuple, int depth)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++)
        if (parse(parser, PyTuple_GET_ITEM(tuple, i), depth + 1) < 0)
            return -1;
    return 0;
}

static int
parse_dict(Parser *parser, PyObject *dict, int depth)
{
    PyObject *list = PyDict_Keys(dict);
    PyObject *keys = list == NULL ? NULL : PyList_AsTuple(list);
    Py_XDECREF(list);
    if (keys == NULL)
        return -1;
    Node *node = append(parser, NODE_DICT, PyTuple_GET_SIZE(keys));
    if (node == NULL) {
        Py_DECREF(keys);
        return -1;
    }
    node->keys = keys; /* parse below may move the node, not the keys */
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(keys); i++) {
        PyObject *value = PyDict_GetItemWithError(dict, PyTuple_GET_ITEM(keys, i));
        if (value == NULL) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_RuntimeError, "the dict changed while it was read");
            return -1;
        }
        Py_INCREF(value);
        int failed = parse(parser, value, depth + 1);
        Py_DECREF(value);
        if (failed)
            return -1;
    }
    return 0;
}

static int
parse(Parser *parser, PyObject *spec, int depth)
{
    if (depth > MAX_DEPTH) {
        PyErr_Format(PyExc_ValueError, "more than %d containers inside each other", MAX_DEPTH);
        return -1;
    }
    if (PyLong_CheckExact(spec))
        return parse_result(parser, spec);
    if (Py_IsNone(spec))
        return append(parser, NODE_NONE, 0) == NULL ? -1 : 0;
    if (PyDict_CheckExact(spec))
        return parse_dict(parser, spec, depth);
    if (!PyTuple_CheckExact(spec) && !PyList_CheckExact(spec)) {
        PyErr_Format(PyExc_TypeError, "a structure is made of int, None, tuple, list and dict, "
                     "got %.100s", Py_TYPE(spec)->tp_name);
        return -1;
    }
    PyObject *items = PySequence_Tuple(spec);
    if (items == NULL)
        return -1;
    enum NodeKind kind = PyTuple_CheckExact(spec) ? NODE_TUPLE : NODE_LIST;
    int failed = append(parser, kind, PyTuple_GET_SIZE(items)) == NULL ||
                 parse_items(parser, items, depth) < 0;
    Py_DECREF(items);
    return failed ? -1 : 0;
}

int
cv_tree_parse(CvTree *tree, PyObject *spec, Py_ssize_t results)
{
    *tree = (CvTree){0};
    if (PyCallable_Check(spec)) {
        tree->function = Py_NewRef(spec);
        return 0;
    }
    Parser parser = {tree, 0, results};
    if (parse(&parser, spec, 0) == 0)
        return 0;
    cv_tree_free(tree);
    return -1;
}

void
cv_tree_free(CvTree *tree)
{
    for (Py_ssize_t i = 0; i < tree->count; i++)
        Py_XDECREF(tree->nodes[i].keys);
    PyMem_Free(tree->nodes);
    Py_XDECREF(tree->function);
    *tree = (CvTree){0};
}

int
cv_tree_traverse(const CvTree *tree, visitproc visit, void *arg)
{
    Py_VISIT(tree->function);
    return 0;
}

/* ---- building ---- */

static PyObject *build(const Node **next, PyObject *const *results);

static PyObject *
build_tuple(Py_ssize_t count, const Node **next, PyObject *const *results)
{
    PyObject *tuple = PyTuple_New(count);
    for (Py_ssize_t i = 0; tuple != NULL && i < count; i++) {
        PyObject *item = build(next, results);
        if (item == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, item);
    }
    return tuple;
}

static PyObject *
build_list(Py_ssize_t count, const Node **next, PyObject *const *results)
{
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
        PyObject *item = build(next, results);
        if (item == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, item);
    }
    return list;
}

static PyObject *
build_dict(const Node *node, const Node **next, PyObject *const *results)
{
    PyObject *dict = PyDict_New();
    for (Py_ssize_t i = 0; dict != NULL && i < node->count; i++) {
        PyObject *item = build(next, results);
        if (item == NULL || PyDict_SetItem(dict, PyTuple_GET_ITEM(node->keys, i), item) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(item);
    }
    return dict;
}

static PyObject *
build(const Node **next, PyObject *const *results)
{
    const Node *node = (*next)++;
    switch (node->kind) {
    case NODE_RESULT:
        return Py_NewRef(results[node->count]);
    case NODE_NONE:
        return Py_NewRef(Py_None);
    case NODE_TUPLE:
        return build_tuple(node->count, next, results);
    case NODE_LIST:
        return build_list(node->count, next, results);
    default:
        return build_dict(node, next, results);
    }
}

PyObject *
cv_tree_build(const CvTree *tree, PyObject *const *results, Py_ssize_t count)
{
    if (tree->function == NULL) {
        const Node *next = tree->nodes;
        return build(&next, results);
    }
    PyObject *list = PyList_New(count);
    if (list == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++)
        PyList_SET_ITEM(list, i, Py_NewRef(results[i]));
    PyObject *value = PyObject_CallOneArg(tree->function, list);
    Py_DECREF(list);
    return value;
}
