# Cores of connections: lets an ordinary request off its client's, and a whole answer off its
# upstream's; leaves any other bytes to the class that inherits.

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
