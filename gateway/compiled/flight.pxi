# A request under way: lets an ordinary one end here, and makes any other a whole one.

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
                self._refuse(lane.refusal_of(None, microsecond // SECOND))
            elif remaining >= 0:
                self.extra += way.rate.lines(remaining, microsecond)
                self._onward()
            elif remaining == FULL:
                why = (rule, way.rate.free_at, way.rate.retry_after)
                self._refuse(lane.refusal_of(why, microsecond // SECOND))
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
            why = (window, reset_at, retry_after)
            self._refuse(lane.refusal_of(why, microsecond // SECOND))
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
            forwarded = way.plan.forwarding(self, self.head, lane.heads)
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
