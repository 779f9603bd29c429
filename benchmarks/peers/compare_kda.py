"""The KDA operator of deltatape in turns with one in PyTorch, on the same inputs; peers.py starts it.

Lower-bound gate, L2 norm and sigmoid are part of the operator on both sides. The gate logits are drawn around -3, which
decays by a quarter per token: the peers overflow where a chunk decays much more.
"""

import argparse
import functools
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

import torch_chunk
import turns

TOLERANCE = 1e-4  # float32 on both sides; what is wrong is off by far more
NAMES = ("q", "k", "v", "g", "beta", "A_log", "dt_bias")


def draw(T, H, D, folder):
    """Inputs by name, also as a file for the worker."""
    generator = torch.Generator().manual_seed(1)
    shapes = {"q": (1, T, H, D), "k": (1, T, H, D), "v": (1, T, H, D), "g": (1, T, H, D), "beta": (1, T, H),
              "A_log": (H,), "dt_bias": (H * D,), "d_o": (1, T, H, D)}
    x = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    x["g"] -= 3.0
    x["A_log"] *= 0.1
    x["dt_bias"] *= 0.1
    path = folder / f"{T}_{H}.npz"
    np.savez(path, **{name: y.numpy() for name, y in x.items()})
    return x, path


class Peer:
    """One PyTorch implementation on one set of inputs."""

    def __init__(self, attention, x):
        self.attention, self.d_o = attention, x["d_o"]
        self.leaves = {name: x[name].clone().requires_grad_() for name in NAMES}

    def run(self):
        return torch_chunk.kda(**self.leaves, attention=self.attention)

    def forward(self):
        with torch.no_grad():
            return (turns.milliseconds(self.run)[0],)

    def both(self):
        forward, o = turns.milliseconds(self.run)
        backward, _ = turns.milliseconds(lambda: torch.autograd.grad(o, list(self.leaves.values()), self.d_o))
        return forward, backward, forward + backward

    def results(self):
        o = self.run()
        gradients = torch.autograd.grad(o, list(self.leaves.values()), self.d_o)
        return {"o": o.detach()} | {"d" + name: dy for name, dy in zip(self.leaves, gradients)}


def both_of(worker):
    forward, backward = worker.numbers("both")
    return forward, backward, forward + backward


def fla_chunk(q, k, v, g, beta):
    from fla.ops.kda.naive import naive_chunk_kda

    return naive_chunk_kda(q, k, v, g, beta)[0]


def transformers_chunk(q, k, v, g, beta):
    from transformers.models.kimi_linear.modeling_kimi_linear import chunk_kimi_delta_attention

    # Without the decorator, which would choose FLA's Triton kernel where FLA is installed.
    return chunk_kimi_delta_attention.__wrapped__(q, k, v, g, beta)[0]


# Title of a peer -> function.
PEERS = {
    "torch": {
        "PyTorch, FLA's naive form in two factors": torch_chunk.kda_chunk_plain,
        "PyTorch, chunks of 64, triangular solve": functools.partial(torch_chunk.kda_chunk, solve="triangular"),
        "PyTorch, chunks of 64, products": torch_chunk.kda_chunk,
        "PyTorch, chunks of 32, products": functools.partial(torch_chunk.kda_chunk, chunk=32),
    },
    "transformers": {"transformers' chunk_kimi_delta_attention": transformers_chunk},
    "fla": {"FLA's naive_chunk_kda": fla_chunk},
}


def check(program, attentions, folder):
    """Ends the program where a result or gradient differs at a small shape."""
    x, path = draw(256, 2, 128, folder)
    worker = turns.Worker(program, path)
    worker.ask("both")
    worker.ask(f"save {folder / 'results.npz'}")
    worker.close()
    ours = {name: torch.from_numpy(y) for name, y in np.load(folder / "results.npz").items()}
    for title, attention in attentions.items():
        errors = {name: turns.difference(ours[name], y) for name, y in Peer(attention, x).results().items()}
        print(f"{title}: differs at T=256, H=2, K=V=128 by " +
              ", ".join(f"{name} {error:.0e}" for name, error in errors.items()))
        if not all(error <= TOLERANCE for error in errors.values()):
            raise SystemExit(f"{title}: results differ by more than {TOLERANCE:.0e} of the largest element")
    print()


def rows(shape, times, passes):
    """Prints a row per pass and peer."""
    ours = times.pop("ours")
    for title, theirs in times.items():
        for name, mine, other in zip(passes, ours, theirs):
            print(f"| {shape} | {name} | {title} | {mine:.2f} | {other:.1f} | {other / mine:.1f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--worker", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    turns.set_threads()
    attentions = PEERS[arguments.peer]
    slow = arguments.peer in ("fla", "transformers")
    rounds = 1 if arguments.quick else 2 if slow else 5
    shapes = [(256, 2)] if arguments.quick else [(1024, 4), (4096, 8)]

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"deltatape beside {arguments.peer} (PyTorch {torch.__version__}), f32, "
              f"{os.environ['OMP_NUM_THREADS']} threads, smallest of {rounds} turns of {turns.RUNS} runs")
        check(arguments.worker, attentions, folder)
        for number, (T, H) in enumerate(shapes):
            x, path = draw(T, H, 128, folder)
            worker = turns.Worker(arguments.worker, path)
            if number == 0:
                turns.print_products(worker, rounds + 5)
                print("| B=1, K=V=128 | pass | peer | ours ms | peer ms | ratio |\n|---|---|---|---|---|---|")
            shape = f"T={T}, H={H}"
            peers = {title: Peer(attention, x) for title, attention in attentions.items()}
            sides = {"ours": lambda: worker.numbers("forward")} | {t: peer.forward for t, peer in peers.items()}
            rows(shape, turns.in_turns(sides, rounds), ["forward"])
            if not (slow and T > 1024):  # would take a minute and tens of GB
                sides = {"ours": lambda: both_of(worker)} | {t: peer.both for t, peer in peers.items()}
                rows(shape, turns.in_turns(sides, rounds), ["forward, recorded", "backward", "forward and backward"])
            worker.close()


if __name__ == "__main__":
    main()
