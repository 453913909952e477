# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: binding=False, always_allow_keywords=False, auto_pickle=False, nonecheck=True
"""
The express lane, compiled: lets an ordinary request, whose head, token and counter are known, go
to its upstream and the answer back without an interpreted line between two system calls; leaves
any other, untouched, to the interpreted way, which decides.

It is optional and says nothing of its own: what it does is what C{gateway.express}, the channel,
the pool and the upstream connection do one after another, and at the first "no", "not yet" or "not
that way" the request is made whole (L{Flight.whole_request}) and goes on there. tests/test_express.py
and tests/test_compiled.py hold both against the nested stages.

The cores are the attributes that both sides need, of the classes that inherit them; without this
module C{gateway.cores} has place holders for them.
"""

from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)
from cpython.object cimport PyObject
from libc.string cimport memcmp, memcpy

cdef extern from "Python.h":
    PyObject* PyDict_GetItemWithError(object table, object key) except? NULL
    Py_hash_t PyObject_Hash(object thing) except? -1

cdef extern from "<string.h>" nogil:
    void* memmem(const void* where, size_t size, const void* what, size_t length)

cdef extern from "<sys/socket.h>" nogil:
    Py_ssize_t send(int descriptor, const void* data, size_t size, int flags)
    int MSG_DONTWAIT, MSG_NOSIGNAL

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd* descriptors, unsigned long count, int milliseconds)
    short POLLIN

cdef extern from "<stdio.h>" nogil:
    int snprintf(char* text, size_t size, const char* form, long long number)

cdef class Flight
cdef class Lane
cdef class Rate
cdef class Refusal
cdef class UpstreamCore
cdef class Way

cdef double NEVER = float("inf")

#: Seconds after which an idle connection is too old for what must not be sent twice.
cdef double FRESH = 1.0

#: What L{Rate.take} says instead of a number of requests.
cdef long long ASK = -1, FULL = -3

cdef long long SECOND = 1000000

#: Refusals that are at hand within one second, at most.
cdef Py_ssize_t KEPT = 256


cdef inline object find(object table, object key):
    """What a dictionary has, or None."""
    cdef PyObject* found = PyDict_GetItemWithError(table, key)
    return None if found == NULL else <object> found


cdef bytes joined(tuple pieces):
    """The pieces, all of them bytes, as one."""
    cdef Py_ssize_t size = 0, length
    for piece in pieces:
        if not PyBytes_CheckExact(piece):
            raise TypeError("bytes only")
        size += PyBytes_GET_SIZE(piece)
    cdef bytes whole = PyBytes_FromStringAndSize(NULL, size)
    cdef char* end = PyBytes_AS_STRING(whole)
    for piece in pieces:
        length = PyBytes_GET_SIZE(piece)
        memcpy(end, PyBytes_AS_STRING(piece), length)
        end += length
    return whole


cdef bytes without(const char* start, Py_ssize_t size, const char* at, const char* end):
    """The head but for the line from C{at} on."""
    cdef Py_ssize_t before = at - start, behind = size - (end - start)
    cdef bytes rest = PyBytes_FromStringAndSize(NULL, before + behind)
    memcpy(PyBytes_AS_STRING(rest), start, before)
    memcpy(PyBytes_AS_STRING(rest) + before, end, behind)
    return rest


include "values.pxi"
include "connections.pxi"
include "known.pxi"
include "lane.pxi"
include "flight.pxi"
