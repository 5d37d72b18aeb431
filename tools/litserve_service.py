"""The service of lab 07 as LitServe serves it: the same model, form and answer, with that library's own batching.

    python -m tools.litserve_service 8000 --window 0.005

One process takes the requests, one more computes, with one thread. Ends when its standard input does.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Sequence

import litserve
import torch

from labs_lib.serving import classify, decode, small_vit


class Classify(litserve.LitAPI):
    """One inference worker: decodes, and runs the model over what LitServe batched."""

    def setup(self, device: str) -> None:
        torch.set_num_threads(1)
        self.model = small_vit()

    def decode_request(self, request):  # no annotations: LitServe would read types from them
        return decode(request["image"].file.read())

    def batch(self, inputs):
        return list(inputs)

    def predict(self, images):
        return classify(self.model, images)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"label": output}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.litserve_service", description=__doc__.split("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--window", type=float, default=0.005, help="seconds that a batch waits for more")
    args = parser.parse_args(argv)
    api = Classify(max_batch_size=args.max_batch, batch_timeout=args.window, api_path="/classify")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=30)
    server.run(host="127.0.0.1", port=args.port, num_api_servers=1, log_level="error", generate_client_file=False)
    return 0


def _end_with_parent() -> None:
    os.read(0, 1)  # sys.stdin would be locked meanwhile, and LitServe's children close theirs
    os.killpg(0, signal.SIGTERM)  # with the processes that LitServe started


if __name__ == "__main__":
    raise SystemExit(main())
