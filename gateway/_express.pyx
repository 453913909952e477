# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: binding=False, always_allow_keywords=False, auto_pickle=False, nonecheck=True
"""
The express lane, compiled: lets an ordinary request, whose head, token and counter are known, go
to its upstream and the answer back without an interpreted line between two system calls; leaves
any other, untouched, to the interpreted way, which decides.

It is optional and says nothing of its own: what it does is what C{gateway.express}, the channel,
the pool and the upstream connection do one after another, and at the first "no", "not yet" or "not
that way" the request is made whole (L{Flight.whole_request}) and goes on there. tests/test_express.py
holds both against the nested stages.

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
cdef long long PARTS = 16


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


# -- what others inherit


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


cdef class PoolCore:
    """Of L{gateway.http.pool.Pool}."""

    cdef public object heads, _waiters
    cdef public SweepCore sweep
    cdef public double patience, _idleness
    cdef public list _idle
    cdef public Py_ssize_t _room
    cdef public bint _closed

    cdef UpstreamCore take_idle(self, bint idempotent):
        """L{Pool.take}."""
        cdef UpstreamCore connection
        cdef Py_ssize_t last
        while self._idle:
            connection = self._idle[len(self._idle) - 1]
            if not idempotent and self.sweep.now - connection.idle_since >= FRESH:
                return None
            self._idle.pop()
            if not (connection.lost or connection.stale()):
                return connection
            connection.close()
        return None

    cdef int take_back(self, UpstreamCore connection) except -1:
        """L{Pool.release}."""
        connection.reused = True
        cdef double now = self.sweep.now
        cdef Py_ssize_t idle = len(self._idle)
        if (
            connection.lost or self._closed or self._waiters or not self._room
            or (idle >= self._room and (<UpstreamCore?> self._idle[0]).idle_since < now)
        ):
            self.release(connection)
            return 0
        connection.idle_since = now
        connection.deadline = now + (self._idleness if idle < self._room else self.sweep.interval)
        self._idle.append(connection)
        return 0


cdef class UpstreamCore:
    """Of L{gateway.http.client.UpstreamConnection}."""

    cdef public PoolCore _pool
    cdef public object _asker, _head, _write
    cdef public double deadline, idle_since
    cdef public bint reused, lost, _is_head, _sent, _paused
    cdef public int _interims
    cdef public bytes _buffer
    cdef StreamCore stream
    cdef int descriptor

    def wired(self, transport):
        """That is the transport: what can be known of it."""
        self.stream = transport if isinstance(transport, StreamCore) else None
        try:
            self.descriptor = transport.getHandle().fileno()
        except (AttributeError, TypeError, ValueError):
            self.descriptor = -1

    cdef bint stale(self) except -1:
        """Whether something has arrived that nobody asked for."""
        cdef pollfd asked
        if self.descriptor < 0:
            return False
        asked.fd, asked.events, asked.revents = self.descriptor, POLLIN, 0
        return poll(&asked, 1, 0) != 0

    def dataReceived(self, bytes data not None):
        """Bytes from the upstream: a whole answer that is known, or anything else."""
        if type(self._asker) is Flight and self._ends_flight(data):
            return
        self.received(data)

    cdef bint _ends_flight(self, bytes data) except -1:
        cdef Flight flight = self._asker
        cdef const char* start = PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef const char* end
        cdef MemoCore memo
        cdef ReplyCore head
        if (
            flight.request is not None or self._head is not None or self._buffer
            or self._paused or not self._sent or self._is_head
        ):
            return False
        end = <const char*> memmem(start, size, b"\r\n\r\n", 4)
        if end == NULL:
            return False
        memo = self._pool.heads.memo
        found = find(memo.young, start[:end - start])
        if found is None:
            return False
        head = found
        end += 4
        if not head.plain or head.length != size - (end - start):
            return False
        self._asker = None
        self._interims = 0
        self._pool.take_back(self)
        flight.answer(head, end[:size - (end - start)])
        return True

    cdef int ask_for(self, Flight flight, bytes head) except -1:
        """L{UpstreamConnection.ask}, of a request without a body."""
        self._asker = flight
        self._is_head = False
        self._sent = True
        if self.stream is not None:
            self.stream.put(head)
        else:
            self._write(head)
        self.deadline = self._pool.sweep.now + self._pool.patience
        return 0


cdef class ChannelCore:
    """Of L{gateway.http.channel.Channel}."""

    cdef public object site, write, peer, _request, _body, _producer
    cdef public str _state
    cdef public bytes _buffer
    cdef public double deadline, _idle
    cdef public bint _reading, _half_closed
    cdef StreamCore stream

    def wired(self, transport):
        """That is the transport."""
        self.stream = transport if isinstance(transport, StreamCore) else None

    @property
    def request(self):
        """The request under way, a whole one, or C{None}."""
        if type(self._request) is Flight:
            return (<Flight> self._request).whole_request()
        return self._request

    def dataReceived(self, bytes data not None):
        """Bytes from the client: an ordinary request, or anything else."""
        if self._state == "idle" and self._takes_off(data):
            return
        self.received(data)

    cdef bint _takes_off(self, bytes data) except -1:
        cdef SiteCore site
        if isinstance(self.site, SiteCore):
            site = self.site
            if not site.draining and isinstance(site.resource, Lane):
                return (<Lane> site.resource).begin(self, site, data)
        return False

    cdef int put(self, bytes data) except -1:
        if self.stream is not None:
            self.stream.put(data)
        else:
            self.write(data)
        return 0

    cdef int put_later(self, bytes data) except -1:
        if self.stream is not None:
            self.stream.put_later(data)
        else:
            self.write(data)
        return 0

    cdef int landed(self, Flight flight) except -1:
        """L{Channel.finished}."""
        if (
            self._producer is None and self._reading and not self._buffer
            and not self._half_closed and self._body is None and isinstance(self.site, SiteCore)
        ):
            self._request = None
            self._state = "idle"
            self.deadline = (<SiteCore> self.site).sweep.now + self._idle
        else:
            self.finished(flight)
        return 0


# -- what is known before the request comes


cdef class Refusal:
    """
    A refusal laid out for an answer: see L{gateway.equipment.Refusals}.

    @param opening: what comes before the request's own lines; C{told} behind these; C{closing}
        behind the response time.
    @param before: the body up to the request's identifier; C{behind}: the rest.
    @param code: the reason, and C{detail}: more about it, for the audit.
    """

    cdef int status
    cdef bytes opening, told, closing, before, behind
    cdef str code, detail
    cdef Py_ssize_t size
    cdef long long second, free_at, retry_after

    def __init__(
        self, int status, bytes opening not None, bytes told not None, bytes before not None,
        bytes behind not None, str code not None, str detail not None,
    ):
        self.status, self.opening, self.told = status, opening, told
        self.before, self.behind, self.code, self.detail = before, behind, code, detail
        self.size = len(before) + 36 + len(behind)
        self.closing = b"Content-Length: %d\r\n\r\n" % self.size
        self.second = -1


cdef class Rate:
    """
    A sliding window as one counts in it while nothing but one more request happens: see
    L{gateway.admission.windows.SlidingWindow}.

    @param pieces: of the header lines, given the reset and the seconds until then: the remaining
        requests stand between them.
    """

    cdef object rule, pieces
    cdef long long limit, part, free_at
    cdef long long latest, reset_at, retry_after
    cdef long long told_reset, told_seconds
    cdef Refusal refusal
    cdef list told

    def __init__(self, rule, pieces):
        self.rule = rule
        self.pieces = pieces
        self.limit, self.part = rule.limit, rule.part
        self.latest = self.told_reset = self.told_seconds = -1
        self.reset_at = 0
        self.told = []

    cdef long long take(self, dict rules, str key, long long now) except -2:
        """
        What remains behind one more request, reset at C{reset_at}. L{FULL}: it is refused, until
        C{free_at}, for C{retry_after} seconds. L{ASK}: something else has to be thought of.
        """
        cdef object found = find(rules, self.rule)
        cdef list shards, state
        cdef long long index, total
        if found is None:
            return ASK
        shards = found
        found = find(shards[PyObject_Hash(key) & (len(shards) - 1)], key)
        if found is None:
            return ASK
        state = found
        if len(state) < 3:
            return ASK
        index = now // self.part
        if index != <long long> state[1]:
            return ASK
        total = <long long> state[0] + 1
        if total > self.limit:
            self._refuse(state, total - self.limit, now)
            return FULL
        state[0] = total
        state[2] = <long long> state[2] + 1
        if index != self.latest:
            self.latest = index
            self.reset_at = ((index + PARTS + 1) * self.part + SECOND - 1) // SECOND
        return self.limit - total

    cdef int _refuse(self, list state, long long excess, long long now) except -1:
        """When so much has left: C{SlidingWindow._free_at} and what L{Count} says of it."""
        cdef long long index = state[1], at
        cdef Py_ssize_t place = 3
        while place + 1 < len(state):
            excess -= <long long> state[place + 1]
            if excess <= 0:
                index = state[place]
                break
            place += 2
        at = (index + PARTS + 1) * self.part
        self.free_at = (at + SECOND - 1) // SECOND
        self.retry_after = max(1, (at - now + SECOND - 1) // SECOND)
        return 0

    cdef bytes lines(self, long long remaining, long long now):
        """L{Window.filled}."""
        cdef long long seconds = self.reset_at - now // SECOND
        if self.told_reset != self.reset_at or self.told_seconds != seconds:
            self.told = self.pieces(self.reset_at, seconds)
            self.told_reset, self.told_seconds = self.reset_at, seconds
        cdef char text[24]
        cdef bytes number = PyBytes_FromStringAndSize(text, snprintf(text, 24, b"%lld", remaining))
        return number.join(self.told)


cdef class Way:
    """
    What all requests with one head have in common, L{gateway.express.Plan} and the route's terms
    laid open; not C{open}: the interpreted lane's business, whoever sends it.
    """

    cdef readonly object plan, terms, target
    cdef bint open, idempotent, cors
    cdef Rate rate
    cdef object owner, rules, agent, method, path, policy, assertion, circuit
    cdef str route, name
    cdef object statuses
    cdef bytes start, end, more
    cdef dict forwarded
    cdef PoolCore pool

    def __init__(self, head, plan, Rate rate, bint idempotent):
        cdef object terms = plan.terms
        self.plan, self.owner = plan, plan.owner
        self.open = (
            terms is not None and head.plain and not head.length and not head.expect_continue
            and terms.addresses.open and not terms.public
        )
        if not self.open:
            return
        self.terms = terms
        self.target = target = terms.target
        self.idempotent = idempotent
        self.cors = terms.cors is not None and terms.cors.enabled
        self.rate = rate
        self.rules = terms.identity
        self.agent = plan.agent
        self.method = head.method
        self.path = plan.path
        self.policy = None if terms.policy is None or terms.policy.open else terms.policy
        self.assertion = terms.assertion
        self.circuit = target.circuit
        self.route = terms.route
        self.name = target.name
        self.statuses = target.statuses
        self.start, self.end, self.more = plan.start, plan.end, plan.lines
        self.forwarded = plan.forwarded
        self.pool = target.pool


# -- the lane


cdef class Lane:
    """
    Of L{gateway.express.ExpressLane}, which gives it what it needs in L{equip}.
    """

    cdef object clock, now, request_id_line, known, take, append
    cdef list ready
    cdef tuple lines
    cdef dict direct, counters
    cdef object entries  # an OrderedDict, whose look-up is a dictionary's
    cdef object move_to_end, Count, Refused, key_of, rule_of, way_of, make_whole, refusal
    cdef object owner, counted, judge, forbidden, broken, send, forwarded
    cdef Refusal no_token
    cdef FlyingCore flying
    cdef Py_ssize_t most_flying
    cdef bint equipped

    def equip(self, tools):
        """What the interpreted lane has: see L{gateway.equipment.Tools}."""
        self.owner, self.clock, self.now = tools.owner, tools.clock, tools.now
        self.flying, self.most_flying = tools.flying, tools.most_flying
        self.ready, self.request_id_line = tools.ready, tools.request_id_line
        self.direct, self.entries, self.known = tools.direct, tools.entries, tools.known
        self.move_to_end = None if tools.entries is None else tools.entries.move_to_end
        self.counters, self.take = tools.counters, tools.take
        self.append, self.lines = tools.append, tools.lines
        self.Count, self.Refused = tools.Count, tools.Refused
        self.key_of, self.rule_of = tools.key_of, tools.rule_of
        self.way_of, self.make_whole = tools.way_of, tools.make_whole
        self.refusal, self.counted, self.judge = tools.refusal, tools.counted, tools.judge
        self.forbidden, self.broken = tools.forbidden, tools.broken
        self.send, self.forwarded = tools.send, tools.forwarded
        self.equipped = True

    cdef bint begin(self, ChannelCore channel, SiteCore site, bytes data) except -1:
        """Let an ordinary request go; whether it was one: if not, nothing has been done."""
        cdef const char* start = PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data) - 4
        cdef const char* at
        cdef const char* end
        cdef bytes rest, value = None, more = b""
        cdef HeadsCore heads
        cdef Way way
        cdef Flight flight
        if (
            not self.equipped or size <= 0 or memcmp(start + size, b"\r\n\r\n", 4) != 0
            or size > <Py_ssize_t> site.limits.max_head
        ):
            return False
        # L{RequestHeads.recall}.
        at = <const char*> memmem(start, size, b"\r\nAuthorization: ", 17)
        if at == NULL:
            at = <const char*> memmem(start, size, b"\r\nauthorization: ", 17)
        if at == NULL:
            rest = start[:size]
        else:
            if at == start:
                return False
            end = <const char*> memmem(at + 17, size + 2 - (at + 17 - start), b"\r\n", 2)
            value = (at + 17)[:end - (at + 17)]
            rest = without(start, size, at, end)
        heads = site.heads
        if heads._cuts.patterns:
            cut = heads._cuts.cut_out(rest)
            if cut is None:
                return False
            rest, more = cut
        found = find(heads._heads.young, rest)
        if found is None:
            return False
        way = (<HeadCore?> found).way
        if way is None or way.owner is not self.owner:
            way = self.way_of(found)
            (<HeadCore> found).way = way
        address = find(self.direct, channel.peer)
        if (
            not way.open or address is None
            or (self.most_flying and self.flying.count >= self.most_flying)
        ):
            return False
        moment = self.now()
        identity = None
        if value is not None:
            identity = self._identity(value, way.rules, moment)
            if identity is None:
                return False
        elif self.entries is None:
            return False  # another proof may have come instead
        flight = Flight.__new__(Flight)
        flight.lane, flight.way, flight.channel, flight.head = self, way, channel, found
        flight.identity, flight.address = identity, address
        flight.authorization, flight.more, flight.raw = value, more, data
        flight.began = moment
        return flight.take_off()

    cdef Refusal refusal_of(self, Rate rate, long long free_at, long long retry_after, long long now):
        """
        The refusal of a full window, or, where there is no rate, of a request without a token; the
        last one of each is at hand.
        """
        cdef Refusal kept = self.no_token if rate is None else rate.refusal
        if (
            kept is None or kept.second != now
            or kept.free_at != free_at or kept.retry_after != retry_after
        ):
            kept = self.refusal(None if rate is None else (rate.rule, free_at, retry_after), now)
            kept.second, kept.free_at, kept.retry_after = now, free_at, retry_after
            if rate is None:
                self.no_token = kept
            else:
                rate.refusal = kept
        return kept

    cdef object _identity(self, bytes value, object rules, double moment):
        """L{TokenCache.known}."""
        cdef EntryCore entry
        cdef IdentityCore identity
        if self.entries is None:
            return self.known(value, rules, moment)
        found = find(self.entries, value)
        if found is None:
            return None
        entry = found
        if entry.rules is not rules or entry.identity is None:
            return self.known(value, rules, moment)
        identity = entry.identity
        if not identity.not_before <= moment < identity.expires:
            return None
        self.move_to_end(value)
        return identity


cdef bytes without(const char* start, Py_ssize_t size, const char* at, const char* end):
    """The head but for the line from C{at} on."""
    cdef Py_ssize_t before = at - start, behind = size - (end - start)
    cdef bytes rest = PyBytes_FromStringAndSize(NULL, before + behind)
    memcpy(PyBytes_AS_STRING(rest), start, before)
    memcpy(PyBytes_AS_STRING(rest) + before, end, behind)
    return rest


cdef class Flight:
    """
    An ordinary request under way. To its channel it is a C{Request}, to its upstream connection who
    asked: whatever they want of it but the ordinary end makes it a whole one first.

    @ivar request: it, once it is whole.
    """

    cdef Lane lane
    cdef readonly Way way
    cdef readonly ChannelCore channel
    cdef readonly IdentityCore identity
    cdef readonly object head, address, permit, connection, request, pending
    cdef readonly bytes authorization, more, raw, line, extra, asked
    cdef readonly double started_at
    cdef readonly object began
    cdef object forwarding

    cdef bint take_off(self) except -1:
        """Stages 5 and 6; whether the request stays here or is on its way by other means."""
        cdef Lane lane = self.lane
        cdef Way way = self.way
        cdef long long microsecond = <long long> (<double> self.began * 1000000)
        cdef long long remaining = ASK
        cdef object count = None
        cdef object rule = None
        cdef object key = None
        if self.identity is not None:
            if way.rate is not None:
                key = self.identity.sub_key
                if lane.counters is not None:
                    remaining = way.rate.take(lane.counters, key, microsecond)
                rule = way.terms.rate
            else:
                key = lane.key_of(self, way.terms.rate_key)
                if key is None:
                    return False
                rule = lane.rule_of(way.terms, self.identity)
        # From here on there is no way back.
        self.line = self.extra = lane.ready.pop() if lane.ready else lane.request_id_line()
        self.started_at = lane.clock()
        self.channel._state = "answer"
        self.channel._request = self
        self.channel.deadline = NEVER
        if lane.most_flying:
            lane.flying.count += 1
        if way.more:
            self.extra = self.line + way.more
        try:
            if self.identity is None:
                self._refuse(lane.refusal_of(None, 0, 0, microsecond // SECOND))
            elif remaining >= 0:
                self.extra += way.rate.lines(remaining, microsecond)
                self._onward()
            elif remaining == FULL:
                self._refuse(lane.refusal_of(
                    way.rate, way.rate.free_at, way.rate.retry_after, microsecond // SECOND
                ))
            else:
                cost = 1 if way.rate is not None else way.terms.costs.get(way.method, way.terms.cost)
                self._judge(lane.take(rule, key, microsecond, cost), microsecond)
        except Exception:
            self.channel.site.broken(self.whole_request())
        return True

    cdef int _judge(self, object count, long long microsecond) except -1:
        """What the counters say."""
        cdef Lane lane = self.lane
        if type(count) is not lane.Count:
            self.pending = count
            count.then(self.counted, self, self.way.plan)
            return 0
        allowed, window, remaining, reset_at, retry_after, full, note = count
        if note or full:
            request = self.whole_request()
            self._rendered(lane.judge(request, request, request.exchange, count, microsecond))
        elif allowed:
            self.extra += window.filled(remaining, reset_at, reset_at - microsecond // SECOND)
            self._onward()
        else:
            self._refuse(lane.refusal((window, reset_at, retry_after), self.began))
        return 0

    def counted(self, counting):
        """A store that had to be asked has answered."""
        count = counting.count
        if self.request is None:
            if count is not None and not count.note and count.allowed:
                self.pending = None
                try:
                    seconds = max(0, count.reset_at - counting.now // SECOND)
                    self.extra += count.window.filled(count.remaining, count.reset_at, seconds)
                    self._onward()
                except Exception:
                    self.channel.site.broken(self.whole_request())
                return
            self.whole_request()
        counting.request = self.request
        self.lane.counted(counting)

    cdef int _refuse(self, Refusal refusal) except -1:
        """Answer with a refusal that is at hand."""
        cdef bytes identifier = self.line[14:50]
        duration = <double> self.lane.clock() - self.started_at
        text = joined((
            refusal.opening, self.extra, refusal.told, self._took(duration), refusal.closing,
            refusal.before, identifier, refusal.behind,
        ))
        self._row(duration, refusal.status, "", refusal.code, refusal.size, refusal.detail)
        self.channel.put_later(text)
        self.channel.landed(self)
        return 0

    cdef int _onward(self) except -1:
        """Stages 7 to 11."""
        cdef Lane lane = self.lane
        cdef Way way = self.way
        cdef IdentityCore identity = self.identity
        cdef UpstreamCore connection
        cdef bytes fields = identity.headers
        if way.policy is not None and way.policy.judge(
            way.method, identity, self.address, self.began, way.path
        ) is not None:
            self._rendered(lane.forbidden(self.whole_request()))
            return 0
        self.permit = way.circuit.clear
        if self.permit is None:
            self.permit = way.circuit.admit(self.started_at)
            if type(self.permit) is lane.Refused:
                self.permit = None
                self._rendered(lane.broken(self.whole_request()))
                return 0
        forwarded = find(way.forwarded, self.channel.peer)
        if forwarded is None:
            forwarded = lane.forwarded(self, way.plan)
        if way.assertion is not None:
            path = way.target.base + way.plan.rest + way.plan.query
            fields += way.assertion.line(identity, self.began, way.method, path, self.line[14:50])
        asked = joined((way.start, self.more, fields, self.line, forwarded, way.end))
        connection = way.pool.take_idle(way.idempotent)
        if connection is None:
            request = self.whole_request()
            lane.send(request, request.exchange, way.target, asked)
            return 0
        self.asked = asked
        self.connection = connection
        connection.ask_for(self, asked)
        return 0

    cdef int answer(self, ReplyCore head, bytes data) except -1:
        """The upstream's answer, all of it."""
        cdef Way way = self.way
        cdef ChannelCore channel = self.channel
        self.connection = None
        if (
            head.status in way.statuses or (head.noted and not way.cors)
            or not isinstance(channel.site, SiteCore) or (<SiteCore> channel.site).draining
        ):
            self._asker().whole(head, data)
            return 0
        if way.circuit.clear is None:
            way.circuit.succeeded(self.permit)
        duration = <double> self.lane.clock() - self.started_at
        text = joined((head.opening, self.extra, self._took(duration), head.closing, data))
        self._row(duration, head.status, way.name, "", head.length, "")
        channel.put(text)
        channel.landed(self)
        return 0

    cdef bytes _took(self, double duration):
        """X-Response-Time."""
        cdef Py_ssize_t took = <Py_ssize_t> (duration * 1000)
        cdef tuple lines = self.lane.lines
        if 0 <= took < len(lines):
            return lines[took]
        return b"X-Response-Time: %dms\r\n" % took

    cdef int _row(
        self, double duration, int status, str upstream, str reason, Py_ssize_t size, str detail
    ) except -1:
        """L{Audited.ended}."""
        cdef Way way = self.way
        if self.lane.most_flying:
            self.lane.flying.count -= 1
        user = None if self.identity is None else self.identity.user
        self.lane.append((
            self.began, duration, user, way.method, way.path, status, self.address.text, way.agent,
            self.line[14:50], way.route, upstream, reason, 0, size, detail,
        ))
        return 0

    cdef int _rendered(self, object result) except -1:
        """What a C{render} has returned."""
        if isinstance(result, bytes):
            self.request.write_whole(result)
        return 0

    # -- a whole request

    def whole_request(self):
        """The request, made now if need be."""
        if self.request is None:
            self.request, self.forwarding = self.lane.make_whole(self)
            if self.channel._request is self:
                self.channel._request = self.request
        return self.request

    cdef object _asker(self):
        self.whole_request()
        return self.forwarding

    #: Told to its channel when it ends: what it was made for.
    keep_alive = True

    # -- as an exchange, to those who ask for a key or for forwarding lines

    trusted = False

    @property
    def peer(self):
        """The socket's peer, which is no proxy that is trusted."""
        return self.channel.peer

    # -- as its connection sees it

    def whole(self, head, data):
        """See C{gateway.http.client.Asker}, of which these are the methods."""
        self._asker().whole(head, data)

    def answered(self, head, length, data, ended):
        self._asker().answered(head, length, data, ended)

    def interim(self, head):
        self._asker().interim(head)

    def data(self, data):
        self._asker().data(data)

    def ended(self, trailers):
        self._asker().ended(trailers)

    def failed(self, why):
        self._asker().failed(why)

    def pauseProducing(self):
        self._asker().pauseProducing()

    def resumeProducing(self):
        self._asker().resumeProducing()
