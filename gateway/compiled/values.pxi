# Cores of what is looked at: streams, settings of the site, heads, identities. Lets both halves find
# their attributes; decides nothing.

cdef class StreamCore:
    """Of L{gateway.reactor.stream.Stream}."""

    cdef public bint _fast
    cdef public bytes _out
    cdef public object _uv
    cdef int descriptor

    def __cinit__(self, *_arguments, **_named):
        self._out = b""
        self.descriptor = -1

    cdef int put(self, bytes data) except -1:
        """
        Send at once what the socket takes; uvloop keeps the rest, and finds out what is wrong.

        Where nothing is waiting for the socket, that spares half of a write's cost, and a request in
        a burst the time that the others behind it take.
        """
        cdef Py_ssize_t sent
        if not self._fast or self._out or self._uv.get_write_buffer_size():
            self.write(data)
            return 0
        if self.descriptor < 0:
            self.descriptor = self.socket.fileno()
        sent = send(
            self.descriptor, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data),
            MSG_DONTWAIT | MSG_NOSIGNAL,
        )
        if sent < 0:
            self._uv.write(data)
        elif sent < PyBytes_GET_SIZE(data):
            self._uv.write(data[sent:])
        return 0

    cdef int put_later(self, bytes data) except -1:
        """Send it with what else leaves in this turn: whoever reads the other ends is woken once."""
        cdef list outbox
        if not self._fast or self._out:
            self.write(data)
            return 0
        reactor = self.reactor
        outbox = reactor._outbox
        if not outbox:
            reactor._asyncioEventloop.call_soon(reactor._send_all)
        outbox.append(self)
        self._out = data
        return 0


def send_out(list outbox not None, failed):
    """What was written in this turn leaves; C{failed} is told of who can't."""
    cdef StreamCore stream
    cdef bytes out
    for each in outbox:
        stream = each
        out = stream._out
        if out and stream._uv is not None:
            stream._out = b""
            try:
                stream.put(out)
            except Exception:
                failed("a write failed")


cdef class AuditCore:
    """Of L{gateway.audit.writer.AuditWriter}."""

    cdef public list _rows
    cdef public Py_ssize_t _half

    def append(self, tuple row not None):
        """L{AuditWriter.append}."""
        if len(self._rows) < self._half:
            self._rows.append(row)
        else:
            self._crowded(row)


cdef class SweepCore:
    """Of L{gateway.http.sweep.Sweep}."""

    cdef public double now, interval


cdef class SiteCore:
    """Of L{gateway.http.site.Site}."""

    cdef public object resource, heads, limits
    cdef public SweepCore sweep
    cdef public bint draining


cdef class FlyingCore:
    """Of L{gateway.admission.inflight.Flying}."""

    cdef public Py_ssize_t count


cdef class MemoCore:
    """Of L{gateway.http.memo.Memo}."""

    cdef public dict young


cdef class CutsCore:
    """Of L{gateway.http.cuts.Cuts}."""

    cdef public tuple patterns
    cdef public dict _hits
    cdef public Py_ssize_t _until_review

    cdef tuple cut_out(self, bytes head):
        """L{Cuts.cut}."""
        cdef bytes taken = b"", pattern
        cdef const char* start
        cdef const char* at
        cdef const char* value
        cdef const char* stop
        cdef const char* end
        self._until_review -= 1
        if self._until_review < 0:
            self._review()
        for pattern in self.patterns:
            start = PyBytes_AS_STRING(head)
            stop = start + PyBytes_GET_SIZE(head)
            at = <const char*> memmem(start, stop - start, PyBytes_AS_STRING(pattern), PyBytes_GET_SIZE(pattern))
            if at == NULL:
                continue
            value = at + PyBytes_GET_SIZE(pattern)
            if at == start or memmem(
                value, stop - value, PyBytes_AS_STRING(pattern), PyBytes_GET_SIZE(pattern)
            ) != NULL:
                return None
            end = <const char*> memmem(value, stop - value, b"\r\n", 2)
            if end == NULL:
                end = stop
            if not in_order(value, end):
                return None
            self._hits[pattern] += 1
            taken += at[:end - at]
            head = without(start, stop - start, at, end)
        return head, taken[2:] + b"\r\n" if taken else b""


cdef bint in_order(const char* value, const char* end) noexcept:
    """Whether a field's value is visible ASCII with nothing blank around it."""
    cdef const char* at = value
    if value == end or value[0] in b" \t" or (end - 1)[0] in b" \t":
        return False
    while at < end:
        if not (b" " <= at[0] <= b"~" or at[0] == b"\t"):
            return False
        at += 1
    return True


cdef class HeadsCore:
    """Of L{gateway.http.heads.RequestHeads}."""

    cdef public MemoCore _heads
    cdef public CutsCore _cuts


cdef class HeadCore:
    """Of L{gateway.http.heads.RequestHead}."""

    cdef Way way


cdef class ReplyCore:
    """Of L{gateway.http.response_heads.ResponseHead}."""

    cdef public int status
    cdef public bint plain
    cdef public Py_ssize_t length
    cdef public bytes opening, closing
    cdef public list noted


cdef class IdentityCore:
    """Of L{gateway.admission.identity.Identity}."""

    cdef public str user, sub_key
    cdef public bytes headers
    cdef public double not_before, expires


cdef class EntryCore:
    """Of an entry of L{gateway.admission.token_cache.TokenCache}."""

    cdef public object rules
    cdef public object identity
