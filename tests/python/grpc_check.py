"""Checks of a gRPC service through whatever is at ADDRESS. Prints the name of each that holds."""

import sys
import threading

import grpc

PATIENCE = 30


def method(channel, kind, name):
    return getattr(channel, kind)("/test.Echo/" + name)


def has(metadata, key, value):
    assert (key, value) in [(found, held) for found, held in metadata], (key, value, metadata)


def check_unary(channel):
    call = method(channel, "unary_unary", "Unary")
    for size in (0, 1, 1000, 70_000, 3_000_000):
        assert call(b"u" * size, timeout=PATIENCE) == b"u" * size, size


def check_metadata(channel):
    call = method(channel, "unary_unary", "Unary")
    sent = [("x-one", "1"), ("x-two", "a"), ("x-two", "b"), ("x-raw-bin", b"\x00\x80\xff")]
    body, state = call.with_call(b"m", metadata=sent, timeout=PATIENCE)
    assert body == b"m"
    initial, trailing = state.initial_metadata(), state.trailing_metadata()
    has(initial, "x-initial", "early")
    for key, value in sent:
        has(initial, key, value)
    has(trailing, "x-trailing", "late")
    has(trailing, "x-binary-bin", b"\x00\xff\x01")
    assert state.code() is grpc.StatusCode.OK


def check_server_stream(channel):
    call = method(channel, "unary_stream", "ServerStream")
    for count, size in ((0, 0), (1, 0), (500, 10), (10, 200_000)):
        messages = list(call(b"%d %d" % (count, size), timeout=PATIENCE))
        assert messages == [b"%d " % number + b"s" * size for number in range(count)]


def check_client_stream(channel):
    call = method(channel, "stream_unary", "ClientStream")
    for count, size in ((0, 0), (1, 5), (500, 10), (10, 200_000)):
        answer = call((b"c" * size for _ in range(count)), timeout=PATIENCE)
        assert answer == b"%d" % (count * size)


def check_bidi(channel):
    """Each answer is waited for before the next request: nothing may be held back."""
    call = method(channel, "stream_stream", "Bidi")
    turn = threading.Semaphore(1)
    parts = [b"ab", b"c" * 100_000 + b"d", b"", b"end"]

    def requests():
        for part in parts:
            assert turn.acquire(timeout=PATIENCE)
            yield part

    answers = []
    for answer in call(requests(), timeout=PATIENCE):
        answers.append(answer)
        turn.release()
    assert answers == [part[::-1] for part in parts]


def failure(action):
    try:
        action()
    except grpc.RpcError as error:
        return error
    raise AssertionError("no error")


def check_status(channel):
    call = method(channel, "unary_unary", "Fail")
    for number in range(1, 17):
        error = failure(lambda: call(b"%d" % number, timeout=PATIENCE))
        assert error.code().value[0] == number, (number, error)
        assert error.details() == "failed: 100% gr\u00fcn", error.details()
        has(error.trailing_metadata(), "x-reason", "asked for")


def check_late_status(channel):
    answers = []

    def receive():
        for answer in method(channel, "unary_stream", "FailLate")(b"", timeout=PATIENCE):
            answers.append(answer)

    error = failure(receive)
    assert answers == [b"one", b"two"] and error.code() is grpc.StatusCode.DATA_LOSS, error


def check_unimplemented(channel):
    error = failure(lambda: method(channel, "unary_unary", "None")(b"", timeout=PATIENCE))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED, error


def check_deadline(channel):
    left = method(channel, "unary_unary", "Deadline")(b"", timeout=1000)
    assert 900 <= int(left) <= 1100, left
    error = failure(lambda: method(channel, "unary_unary", "Wait")(b"", timeout=0.5))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED, error
    was_cancelled(channel)


def was_cancelled(channel):
    assert method(channel, "unary_unary", "WasCancelled")(b"", timeout=PATIENCE) == b"yes"


def check_cancel(channel):
    call = method(channel, "unary_stream", "WaitStreaming")(b"", timeout=PATIENCE)
    assert next(call) == b"first"
    call.cancel()
    was_cancelled(channel)


def check_many(channel):
    """A hundred calls at once on one connection."""
    call = method(channel, "unary_unary", "Unary")
    calls = [call.future(b"%d" % number * 100, timeout=PATIENCE) for number in range(100)]
    assert [one.result() for one in calls] == [b"%d" % number * 100 for number in range(100)]


CHECKS = [check_unary, check_metadata, check_server_stream, check_client_stream, check_bidi,
          check_status, check_late_status, check_unimplemented, check_deadline, check_cancel,
          check_many]


def main():
    address = sys.argv[1]
    options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
    if len(sys.argv) > 2:
        options.append(("grpc.ssl_target_name_override", sys.argv[3]))
        with open(sys.argv[2], "rb") as authority:
            credentials = grpc.ssl_channel_credentials(authority.read())
        channel = grpc.secure_channel(address, credentials, options)
    else:
        channel = grpc.insecure_channel(address, options)
    failed = False
    with channel:
        for check in CHECKS:
            try:
                check(channel)
                print("ok", check.__name__, flush=True)
            except Exception as error:  # each is told, and the next is tried
                failed = True
                print("FAILED", check.__name__, repr(error), flush=True)
    sys.exit(failed)


main()
