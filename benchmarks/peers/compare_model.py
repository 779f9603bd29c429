"""A training step of deltatape's KDA language model in turns with the same model in PyTorch; peers.py starts it.

Both start from the same parameters and learn the same batch again and again: the gradients of the first step must
agree, and the losses of all. PyTorch runs the form of attention and convolution that is quickest for the size.
"""

import argparse
import functools
import itertools
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

import torch_chunk
import torch_model
import turns

GRADIENT_TOLERANCE = 1e-4  # over the largest element: float32 on both sides
LOSS_TOLERANCE = 1e-4  # relative, before every step: rounding grows along a trajectory

COMMON = {"model_type": "kda", "num_hidden_layers": 2, "vocab_size": 256, "norm_eps": 1e-6, "conv_size": 4,
          "tie_word_embeddings": False}
# Name, config, B, T; the first is the model of `./dev train`.
SIZES = [
    ("`./dev train`: width 128, 2 heads of 64",
     COMMON | {"hidden_size": 128, "num_heads": 2, "head_dim": 64, "intermediate_size": 384}, 8, 256),
    ("width 512, 4 heads of 128",
     COMMON | {"hidden_size": 512, "num_heads": 4, "head_dim": 128, "intermediate_size": 1536}, 2, 1024),
]
ATTENTIONS = {
    "chunks of 64, triangular solve": functools.partial(torch_chunk.kda_chunk, solve="triangular"),
    "chunks of 64, products": torch_chunk.kda_chunk,
    "chunks of 32, products": functools.partial(torch_chunk.kda_chunk, chunk=32),
}
CONVOLUTIONS = {"conv1d": False, "shifts": True}


def load(config, folder, ids, targets, variant):
    """A Training from the worker's parameters; `variant` names one of ATTENTIONS and one of CONVOLUTIONS."""
    attention, convolution = variant
    model = torch_model.KDAForCausalLM(config, ATTENTIONS[attention], CONVOLUTIONS[convolution])
    state = {name: torch.from_numpy(np.array(y)) for name, y in np.load(folder / "model.npz").items()}
    model.load_state_dict(state)
    return torch_model.Training(model, ids, targets)


def check_gradients(worker, training, folder):
    """Ends the program where the gradient of a parameter differs. Returns the largest difference."""
    worker.ask(f"gradients {folder / 'gradients.npz'}")
    ours = np.load(folder / "gradients.npz")
    errors = {name: turns.difference(torch.from_numpy(ours[name]), dy) for name, dy in training.gradients().items()}
    wrong = {name: f"{error:.0e}" for name, error in errors.items() if not error <= GRADIENT_TOLERANCE}
    if wrong:
        raise SystemExit(f"gradients differ by more than {GRADIENT_TOLERANCE:.0e} of the largest element: {wrong}")
    return max(errors.values())


def quickest(config, folder, ids, targets):
    """The variant with the shortest step of three."""
    def shortest(variant):
        training = load(config, folder, ids, targets, variant)
        return min(turns.milliseconds(training.step)[0] for _ in range(3))

    return min(itertools.product(ATTENTIONS, CONVOLUTIONS), key=shortest)


HEADER = ("| model | batch | PyTorch's quickest form | ours ms | torch ms | ours tokens/s | torch tokens/s | ratio "
          "| gradients differ | losses differ |\n|---|---|---|---|---|---|---|---|---|---|")


def compare(first, title, config, B, T, program, rounds, folder):
    """Prints a row, and before the first one the rate of a matrix product and the table's header."""
    (folder / "config.json").write_text(json.dumps(config))
    text = torch.randint(0, config["vocab_size"], (B, T + 1), generator=torch.Generator().manual_seed(1))
    ids, targets = text[:, :-1].contiguous(), text[:, 1:].contiguous()
    np.savez(folder / "batch.npz", ids=ids.numpy(), targets=targets.numpy())
    worker = turns.Worker(program, folder / "config.json", folder / "batch.npz")
    worker.ask(f"save {folder / 'model.npz'}")
    if first:
        turns.print_products(worker, rounds + 5)
        print(HEADER, flush=True)
    variant = quickest(config, folder, ids, targets)
    training = load(config, folder, ids, targets, variant)
    gradient_error = check_gradients(worker, training, folder)
    losses = {"ours": [], "torch": []}

    def ours():
        loss, ms = worker.numbers("step")
        losses["ours"].append(loss)
        return (ms,)

    def theirs():
        ms, loss = turns.milliseconds(training.step)
        losses["torch"].append(loss)
        return (ms,)

    best = turns.in_turns({"ours": ours, "torch": theirs}, rounds)
    worker.close()
    error = max(abs(a - b) / abs(b) if a == a and b == b else float("inf") for a, b in zip(*losses.values()))
    mine, other = best["ours"][0], best["torch"][0]
    count = sum(p.numel() for p in training.parameters)
    print(f"| {title}, {count:,} parameters | {B} x {T} | {', '.join(variant)} | {mine:.1f} | {other:.1f} | "
          f"{1e3 * B * T / mine:,.0f} | {1e3 * B * T / other:,.0f} | {other / mine:.1f} | "
          f"{gradient_error:.0e} | {error:.0e} |", flush=True)
    if not error <= LOSS_TOLERANCE:
        raise SystemExit(f"the losses differ by more than {LOSS_TOLERANCE:.0e}: {losses}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    turns.set_threads()
    rounds = 1 if arguments.quick else 4
    print(f"deltatape beside PyTorch {torch.__version__}, f32, {os.environ['OMP_NUM_THREADS']} threads, "
          "a training step: forward, cross-entropy, backward, clipping, AdamW; "
          f"smallest of {rounds} turns of {turns.RUNS} steps")
    with tempfile.TemporaryDirectory() as name:
        for number, (title, config, B, T) in enumerate(SIZES[:1] if arguments.quick else SIZES):
            compare(number == 0, title, config, B, T, arguments.worker, rounds, Path(name))


if __name__ == "__main__":
    main()
