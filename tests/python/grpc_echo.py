"""A gRPC server of raw bytes. Prints its port; ends with its standard input."""

import sys
import threading
from concurrent import futures

import grpc

cancelled = threading.Semaphore(0)


def metadata(context):
    """Returns what was sent as x-, and says so in the trailers."""
    sent = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-")]
    context.send_initial_metadata([("x-initial", "early")] + sent)
    context.set_trailing_metadata([("x-trailing", "late"), ("x-binary-bin", b"\x00\xff\x01")])


def unary(request, context):
    metadata(context)
    return request


def server_stream(request, context):
    metadata(context)
    count, size = (int(part) for part in request.split(b" "))
    for number in range(count):
        yield b"%d " % number + b"s" * size


def client_stream(requests, context):
    metadata(context)
    total = 0
    for request in requests:
        total += len(request)
    return b"%d" % total


def bidi(requests, context):
    metadata(context)
    for request in requests:
        yield request[::-1]


def fail(request, context):
    context.set_trailing_metadata([("x-reason", "asked for")])
    code = next(code for code in grpc.StatusCode if code.value[0] == int(request))
    context.abort(code, "failed: 100% gr\u00fcn")


def fail_late(request, context):
    yield b"one"
    yield b"two"
    context.abort(grpc.StatusCode.DATA_LOSS, "after two")


def ends(context):
    """An event for the end of the call, which is counted."""
    over = threading.Event()

    def end():
        cancelled.release()
        over.set()

    assert context.add_callback(end)
    return over


def wait(request, context):
    """Until the client gives up."""
    ends(context).wait(30)
    return b""


def wait_streaming(request, context):
    over = ends(context)
    yield b"first"
    over.wait(30)


def was_cancelled(request, context):
    return b"yes" if cancelled.acquire(timeout=20) else b"no"


def deadline(request, context):
    left = context.time_remaining()
    return b"none" if left is None or left > 1e6 else b"%d" % left


HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
    "Wait": grpc.unary_unary_rpc_method_handler(wait),
    "WaitStreaming": grpc.unary_stream_rpc_method_handler(wait_streaming),
    "WasCancelled": grpc.unary_unary_rpc_method_handler(was_cancelled),
    "Deadline": grpc.unary_unary_rpc_method_handler(deadline),
}


def main():
    options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=20), options=options)
    handlers = grpc.method_handlers_generic_handler("test.Echo", HANDLERS)
    server.add_generic_rpc_handlers((handlers,))
    if len(sys.argv) == 3:
        with open(sys.argv[1], "rb") as cert, open(sys.argv[2], "rb") as key:
            credentials = grpc.ssl_server_credentials([(key.read(), cert.read())])
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0)


main()
