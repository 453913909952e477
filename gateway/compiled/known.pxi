# What is known before a request comes: refusals, a window's count, a head's way. Lets a request be
# counted once more where nothing else can happen; says "ask" where it can.

cdef class Refusal:
    """
    A refusal laid out for an answer: see C{laid_out} in L{gateway.equipment}.

    @param opening: what comes before the request's own lines; C{told} behind these; C{closing}
        behind the response time.
    @param before: the body up to the request's identifier; C{behind}: the rest.
    @param code: the reason, and C{detail}: more about it, for the audit.
    """

    cdef int status
    cdef bytes opening, told, closing, before, behind
    cdef str code, detail
    cdef Py_ssize_t size

    def __init__(
        self, int status, bytes opening not None, bytes told not None, bytes before not None,
        bytes behind not None, str code not None, str detail not None,
    ):
        self.status, self.opening, self.told = status, opening, told
        self.before, self.behind, self.code, self.detail = before, behind, code, detail
        self.size = len(before) + 36 + len(behind)
        self.closing = b"Content-Length: %d\r\n\r\n" % self.size


cdef class Rate:
    """
    A sliding window as one counts in it while nothing but one more request happens: see
    L{gateway.admission.windows.SlidingWindow}.

    @param parts: sub-windows in a window.
    """

    cdef object rule
    cdef long long limit, part, parts, free_at
    cdef long long latest, reset_at, retry_after
    cdef long long told_reset, told_seconds
    cdef list told

    def __init__(self, rule, long long parts):
        self.rule, self.parts = rule, parts
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
            self.reset_at = ((index + self.parts + 1) * self.part + SECOND - 1) // SECOND
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
        at = (index + self.parts + 1) * self.part
        self.free_at = (at + SECOND - 1) // SECOND
        self.retry_after = max(1, (at - now + SECOND - 1) // SECOND)
        return 0

    cdef bytes lines(self, long long remaining, long long now):
        """L{Window.filled}."""
        cdef long long seconds = self.reset_at - now // SECOND
        if self.told_reset != self.reset_at or self.told_seconds != seconds:
            self.told = self.rule.pieces(self.reset_at, seconds)
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
