# The lane: lets a request begin whose head, token and route are known; looks only, and leaves no
# trace of a look.

cdef class Lane:
    """
    Of L{gateway.express.ExpressLane}, which gives it what it needs in L{equip}.
    """

    cdef object clock, now, request_id_line, known, take, append
    cdef list ready
    cdef tuple lines
    cdef dict direct, counters
    cdef object entries  # an OrderedDict, whose look-up is a dictionary's
    cdef object move_to_end, Count, Refused, key_of, rule_of, way_of, make_whole, lay_out
    cdef object owner, counted, judge, forbidden, broken, send, heads
    cdef dict refusals
    cdef long long second
    cdef FlyingCore flying
    cdef Py_ssize_t most_flying
    cdef bint equipped

    def equip(self, tools):
        """What the interpreted lane has: see L{gateway.equipment.equip}."""
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
        self.lay_out, self.counted, self.judge = tools.lay_out, tools.counted, tools.judge
        self.refusals, self.second = {}, -1
        self.forbidden, self.broken = tools.forbidden, tools.broken
        self.send, self.heads = tools.send, tools.heads
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

    cdef Refusal refusal_of(self, tuple why, long long second):
        """
        The refusal of a full window (rule, reset, seconds to wait), or, where C{why} is C{None}, of a
        request without a token; laid out once a second, for they tell the time.
        """
        if second != self.second or len(self.refusals) >= KEPT:
            self.second = second
            self.refusals.clear()
        found = find(self.refusals, why)
        if found is None:
            found = self.refusals[why] = self.lay_out(why)
        return found

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
