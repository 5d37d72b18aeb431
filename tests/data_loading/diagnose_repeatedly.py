"""Diagnoses every planted loader ten times in a row, each beside a process that keeps a core busy.

    python tests/data_loading/diagnose_repeatedly.py [ROUNDS]

Prints one line for each diagnosis; exits with 1 where one named another cause than the planted one.
"""

import multiprocessing
import sys
import time
import warnings

import torch

from labs_lib.data_loading.diagnose import diagnose
from labs_lib.data_loading.planted import PLANTED


def spin() -> None:
    while True:
        pass


def main(rounds: int) -> int:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of more workers than cores, and of forks beside threads
    neighbour = multiprocessing.get_context("spawn").Process(target=spin, daemon=True)
    neighbour.start()
    wrong = 0
    try:
        for number in range(rounds):
            for factory, planted in PLANTED.items():
                start = time.perf_counter()
                found = diagnose(*factory())
                wrong += found.bottleneck != planted
                mark = "ok   " if found.bottleneck == planted else "WRONG"
                (first, most), (second, next_most) = list(found.savings.items())[:2]
                print(
                    f"{mark} round {number} {factory.__name__:25} {first} {most:.2f} s, {second} {next_most:.2f} s of "
                    f"{found.costs.epoch:.2f} s; took {time.perf_counter() - start:.1f} s",
                    flush=True,
                )
                if found.bottleneck != planted:
                    print(found, found.costs, flush=True)
    finally:
        neighbour.terminate()
    print(f"{rounds * len(PLANTED) - wrong} of {rounds * len(PLANTED)} right")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
