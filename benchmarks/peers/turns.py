"""Two programs in turns: ours in a process of its own (kda_worker.cpp, model_worker.cpp), the peer in this one."""

import os
import subprocess
import time

import torch

PAUSE_S = 0.02  # between turns: idle threads of either side spin for a moment before they sleep
RUNS = 3  # per turn: the first finds the other side's data in the caches, and the cores asleep


class Worker:
    """A started worker; `ask` sends a line and returns the numbers or words of the answer."""

    def __init__(self, *command):
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    def ask(self, request):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if not answer:
            raise SystemExit(f"{self.process.args[0]} gave no answer to '{request}'")
        return answer

    def numbers(self, request):
        return [float(word) for word in self.ask(request)]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def milliseconds(run):
    """Of run(), and what it returned."""
    start = time.perf_counter()
    result = run()
    return 1e3 * (time.perf_counter() - start), result


def in_turns(sides, rounds, runs=RUNS):
    """Calls each of `sides` (name -> function that returns a tuple of milliseconds) `runs` times before it is the next
    one's turn, in so many rounds after a first one of single runs that does not count. Name -> the smallest of each."""
    best = {}
    for round_ in range(rounds + 1):
        for name, run in sides.items():
            time.sleep(PAUSE_S)
            if round_ == 0:
                best[name] = [float("inf") for _ in run()]
                continue
            for _ in range(runs):
                best[name] = [min(pair) for pair in zip(best[name], run())]
    return best


def set_threads():
    """As many as OMP_NUM_THREADS says, which the workers read too."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def print_products(worker, rounds):
    """The rate of a matrix product on either side."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = in_turns({"deltatape": lambda: worker.numbers("product"),
                     "PyTorch": lambda: (milliseconds(lambda: a @ b)[0],)}, rounds)
    rates = ", ".join(f"{side} {2e-6 * 1024**3 / ms[0]:.0f} GFLOP/s" for side, ms in best.items())
    print(f"product of two 1024 x 1024 f32 matrices: {rates}\n")


def difference(x, expected):
    """The largest difference over the largest element; NaN where either has one."""
    return float((x - expected).abs().max() / expected.abs().max())
