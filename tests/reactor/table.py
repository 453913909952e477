"""Which of Twisted's reactor tests can't apply to this reactor, and why."""

from __future__ import annotations

_PREFIX = "each read would cost another call to set the log's prefix; uvloop calls the protocol itself"
_BOUND = "dataReceived is looked up when the protocol is set, not at each read"
_PLAIN = "uvloop reads with read(2): the kernel closes descriptors nobody asked for, unlogged"

#: (module, beginning of the class, test): why it can't apply.
NOT_OURS = {
    ("test_tcp", "TCP4ClientTestsBuilder", "test_logPrefix"): _PREFIX,
    ("test_tcp", "TCP6ClientTestsBuilder", "test_logPrefix"): _PREFIX,
    ("test_tls", "SSLClientTestsMixin", "test_logPrefix"): _PREFIX,
    ("test_tls", "StartTLSClientTestsMixin", "test_logPrefix"): _PREFIX,
    ("test_unix", "UNIXTestsBuilder", "test_logPrefix"): _PREFIX,
    ("test_tcp", "AdoptStreamConnectionTestsBuilder", "test_writeSequeceWithoutWrite"): _BOUND,
    ("test_tcp", "TCPTransportTestsBuilder", "test_writeSequeceWithoutWrite"): _BOUND,
    ("test_unix", "UNIXAdoptStreamConnectionTestsBuilder", "test_writeSequeceWithoutWrite"): _BOUND,
    ("test_unix", "UNIXTestsBuilder", "test_avoidLeakingFileDescriptors"): _PLAIN,
}
