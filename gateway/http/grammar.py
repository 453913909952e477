# -*- test-case-name: tests.http.test_heads -*-
"""
The grammar of RFC 9110, 9112 and 3986, as far as a head needs it; nothing lenient.

Lets exactly those bytes through that every sound parser reads in the same way.
"""

from __future__ import annotations

import re

#: RFC 9110 section 5.6.2.
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"

#: Visible characters, obs-text, inner blanks (RFC 9110 section 5.5); outer blanks stripped.
_VALUE = rb"(?:[!-~\x80-\xff](?:[ \t!-~\x80-\xff]*[!-~\x80-\xff])?)?"

#: One field line, no line end. No blank may stand before the colon (RFC 9112 section 5.1).
FIELD = re.compile(rb"(" + TOKEN + rb"):[ \t]*(" + _VALUE + rb")[ \t]*", re.DOTALL)

#: RFC 9112 section 3. The target is judged by itself.
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([!-~]+) HTTP/([0-9])\.([0-9])")

#: Path and query of RFC 3986: pchar, slashes; percent-encoding whole.
_PCHAR = rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*"
ORIGIN_FORM = re.compile(
    rb"/" + _PCHAR + rb"(?:\?(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*)?"
)

#: Nearly every request line, wholly judged in one go: a target in origin form, 1.0 or 1.1.
COMMON_LINE = re.compile(rb"(" + TOKEN + rb") (" + ORIGIN_FORM.pattern + rb") HTTP/1\.([01])")

#: An authority without user information (RFC 9110 section 4.2.4 forbids to take one).
_HOST = rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2}){1,255})"
AUTHORITY = re.compile(rb"(" + _HOST + rb")(?::([0-9]{0,5}))?")

#: RFC 9112 section 4. The phrase may be empty, its blank may not be missing.
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2}) ([\t -~\x80-\xff]*)")

#: A transfer coding that is well-formed, known or not.
ONE_CODING = re.compile(TOKEN)

#: At most 18 digits: any sum of two such lengths still fits 64 bits.
LENGTH = re.compile(rb"[0-9]{1,18}")

#: A chunk's size, and RFC 9112 section 7.1.1's extensions are refused: nobody uses them,
#: and parsers differ about them.
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")
