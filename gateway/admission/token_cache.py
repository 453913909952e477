# -*- test-case-name: tests.admission.test_token_cache -*-
"""
Lets a token that has been verified before through again without arithmetic, as long as
it is valid; refuses with 401 what the verifier or the rules refuse.

The key is the whole token, byte for byte (GHSA-rp9m-7r4c-75qg: a key that was less),
within one generation of keys. C{exp} and C{nbf} are looked at in every hit. Refusals are
never kept. Bounded in entries and bytes; the least recently used goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container

from gateway.admission.identity import Identity, IIdentityRules
from gateway.admission.tokens import IVerifier, Unsettled, VerifiedToken
from gateway.cores import EntryCore
from gateway.verdicts import Refused

#: Longer tokens are verified each time.
MAX_TOKEN = 4096

#: Bytes that are reckoned for another identity made of one token.
_ANOTHER = 1000


class _Entry(EntryCore):
    """
    A token, and who it is under some rules: mostly the same ones on all routes, so the others'
    dictionary is made when it is needed.
    """

    __slots__ = ("others", "token")

    def __init__(self, token: VerifiedToken, rules: IIdentityRules, identity: Identity) -> None:
        self.token = token
        self.rules = rules
        self.identity: Identity | None = identity
        self.others: dict[IIdentityRules, Identity] | None = None

    def get(self, rules: IIdentityRules) -> Identity | None:
        if rules is self.rules:
            return self.identity
        return self.others.get(rules) if self.others is not None else None

    def put(self, rules: IIdentityRules, identity: Identity) -> None:
        if rules is self.rules:
            self.identity = identity
        elif self.others is None:
            self.others = {rules: identity}
        else:
            self.others[rules] = identity

    def pop(self, rules: IIdentityRules) -> bool:
        """Whether somebody went, and nobody is left."""
        gone = self.get(rules) is not None
        if rules is self.rules:
            self.identity = None
        elif self.others is not None:
            self.others.pop(rules, None)
        return gone and self.identity is None and not self.others


class TokenCache:
    """
    @param entries: tokens kept at most.
    @param size: bytes they may take.
    @ivar copies: how many tokens of their own, made of this one, others keep with each.
    @ivar revoked: asked of each token that is verified; says why it is not good all the same.
        What is kept has passed it: whoever revokes must L{forget}.
    """

    def __init__(self, verifier: IVerifier, entries: int, size: int) -> None:
        self._verifier = verifier
        self._most = entries
        self._room = size
        # By the Authorization field's value as most clients send it: what is in there is known
        # to be in order without another look (RequestHeads.vouched), and hashed only once.
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._used = 0
        self.copies = 0
        self.revoked: Callable[[bytes, Identity], Refused | None] | None = None

    def identify(
        self, raw: bytes, rules: IIdentityRules, now: float
    ) -> Identity | Refused | Unsettled:
        """Who the token says it is, under the rules; C{now} is unix seconds."""
        value = b"Bearer " + raw
        entry = self._entries.get(value)
        if entry is not None and entry.token.until <= now:
            self._drop(value)
        elif entry is not None:
            self._entries.move_to_end(value)
            identity = entry.get(rules)
            if identity is not None and identity.not_before <= now < identity.expires:
                return identity
            return self._again(value, entry, rules, now)
        token = self._verifier.verify(raw, now)
        if not isinstance(token, VerifiedToken):
            return token
        found = rules.identify(token, now)
        if isinstance(found, Refused):
            return found
        if self.revoked is not None:
            refused = self.revoked(raw, found)
            if refused is not None:
                return refused
        if len(raw) <= MAX_TOKEN:
            self._keep(value, token, rules, found)
        return found

    def known(self, value: bytes, rules: IIdentityRules, now: float) -> Identity | None:
        """
        The same for an Authorization field's value, where it is known at once; else C{None},
        which says nothing yet.
        """
        entries = self._entries
        entry = entries.get(value)
        if entry is None:
            return None
        # L{_Entry.get}, one call shorter.
        identity = entry.identity if entry.rules is rules else entry.get(rules)
        if identity is None or not identity.not_before <= now < identity.expires:
            return None
        entries.move_to_end(value)
        return identity

    def judge(
        self, raw: bytes, rules: IIdentityRules, now: float
    ) -> Identity | Refused | Unsettled:
        """What L{identify} says; nothing is kept of it."""
        entry = self._entries.get(b"Bearer " + raw)
        fresh = entry is not None and now < entry.token.until
        token = entry.token if entry is not None and fresh else self._verifier.verify(raw, now)
        if not isinstance(token, VerifiedToken):
            return token
        found = rules.identify(token, now)
        if isinstance(found, Refused) or self.revoked is None:
            return found
        return self.revoked(raw, found) or found

    @property
    def values(self) -> Container[bytes]:
        """The Authorization fields' values that are here."""
        return self._entries

    def replace(self, verifier: IVerifier) -> None:
        """New keys: nothing that was verified with the old ones holds."""
        self._verifier = verifier
        self._entries.clear()
        self._used = 0

    def resize(self, entries: int, size: int) -> None:
        """Other bounds from now on; the least recently used go where there are too many."""
        self._most = entries
        self._room = size
        self._shrink()

    def forget(self, where: Callable[[VerifiedToken], bool]) -> int:
        """Forget the tokens that are so, at once; how many there were."""
        gone = [value for value, entry in self._entries.items() if where(entry.token)]
        for value in gone:
            self._drop(value)
        return len(gone)

    def __contains__(self, raw: bytes) -> bool:
        """Whether the token's signature has been verified and is remembered."""
        return b"Bearer " + raw in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def used(self) -> int:
        """Bytes taken, as estimated."""
        return self._used

    def _drop(self, value: bytes) -> None:
        self._used -= self._entries.pop(value).token.size

    def _again(
        self, value: bytes, entry: _Entry, rules: IIdentityRules, now: float
    ) -> Identity | Refused:
        """Known signature, but not yet under these rules, or no longer valid."""
        found = rules.identify(entry.token, now)
        if isinstance(found, Refused):
            if entry.pop(rules):
                self._drop(value)
        else:
            if entry.get(rules) is None:
                entry.token.size += _ANOTHER
                self._used += _ANOTHER
            entry.put(rules, found)
            self._shrink()
        return found

    def _keep(
        self, value: bytes, token: VerifiedToken, rules: IIdentityRules, identity: Identity
    ) -> None:
        token.size += self.copies * (1000 + 3 * len(value) // 2)
        self._entries[value] = _Entry(token, rules, identity)
        self._used += token.size
        self._shrink()

    def _shrink(self) -> None:
        while len(self._entries) > self._most or self._used > self._room:
            _, oldest = self._entries.popitem(last=False)
            self._used -= oldest.token.size
