"""`python -m labs_lib serve` and `python -m labs_lib load-test`."""

from __future__ import annotations

import argparse
import json

from labs_lib import arguments
from labs_lib.cli import FINE, GATE_FAILED, add_json, print_result


def register(subparsers: argparse._SubParsersAction) -> None:
    """Adds the two sub-commands to the parser of `python -m labs_lib`."""
    serve = subparsers.add_parser("serve", help="classify images over HTTP, until Ctrl-C or SIGTERM")
    serve.add_argument("--policy", default="batch", help="such as per-request, once, pool or batch (batch)")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is the whole network")
    serve.add_argument("--port", type=port, default=0, metavar="N", help="0 takes a free one (0)")
    serve.add_argument("--max-batch", type=arguments.count, default=16, metavar="N", help="images of a batch (16)")
    serve.add_argument("--max-queue", type=arguments.count, default=64, metavar="N", help="requests that wait (64)")
    add_json(serve)
    serve.set_defaults(run=_serve)

    load = subparsers.add_parser("load-test", help="send images to a service at Poisson times, and check its answers")
    load.add_argument("url", metavar="URL", help="such as http://127.0.0.1:8000")
    load.add_argument("--rate", type=arguments.positive, default=50.0, metavar="R", help="requests a second (50)")
    load.add_argument("--seconds", type=arguments.positive, default=10.0, metavar="S", help="how long to send (10)")
    load.add_argument("--seed", type=int, default=0, metavar="N", help="of the send times (0)")
    add_json(load)
    load.set_defaults(run=_load_test)


def _serve(args: argparse.Namespace) -> int:
    from labs_lib.serving.server import run

    def listening(url: str) -> None:
        print(json.dumps({"url": url, "policy": args.policy}) if args.json else url, flush=True)

    settings = {"max_batch": args.max_batch, "max_queue": args.max_queue}
    return FINE if run((args.policy,), args.host, args.port, listening=listening, **settings) else GATE_FAILED


def _load_test(args: argparse.Namespace) -> int:
    """1 where an answer was wrong, or none was right."""
    from labs_lib.serving.load import load_test

    result = load_test(args.url, args.rate, args.seconds, args.seed)
    print_result(args, {"url": args.url, **result.as_dict()}, result)
    return FINE if result.right and not result.wrong else GATE_FAILED


def port(text: str) -> int:
    """A number from 0 to 65535, for argparse."""
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)
