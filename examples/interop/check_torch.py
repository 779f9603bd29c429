"""Checks KDA kernels of PyTorch through files: those of flash-linear-attention (FLA), or one of your own.

    deltatape cases make --count 50 --dtype bf16 --format safetensors --out cases
    python3 examples/interop/check_torch.py cases --impl fla-chunk
    deltatape cases check cases

Needs numpy and torch; for the implementations fla-* also flash-linear-attention.

    naive          the recurrence below, with PyTorch's autograd
    fla-chunk      fla.ops.kda.chunk_kda, on a GPU
    fla-recurrent  fla.ops.kda.fused_recurrent_kda, on a GPU, or on the CPU with the environment variable
                   TRITON_INTERPRET=1. It has no backward: deltatape cases check cases --results o,ht
    fla-naive      fla.ops.kda.naive.naive_recurrent_kda; gate, norm and sigmoid by PyTorch

Cases that an implementation does not support are left out and counted. A kernel of your own takes the place of one
entry of IMPLEMENTATIONS: a function of a case, its tensors by name and the device.
"""

import argparse
import os
from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F

import deltatape_cases

DTYPES = {"f64": torch.float64, "f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
WIDE = ("A_log", "dt_bias", "h0")  # f32 where the case has 16 bits


class Unsupported(Exception):
    """An implementation does not do such a case; the message says why."""


def prepare(case, x):
    """q, k, g and beta after norm, gate and sigmoid."""
    config = case.config
    q, k, g, beta = x["q"], x["k"], x["g"], x["beta"]
    if config["use_qk_l2norm"]:
        q, k = (y * torch.rsqrt((y * y).sum(-1, keepdim=True) + 1e-6) for y in (q, k))
    if config["use_gate"]:
        z = g + x["dt_bias"].view(config["HV"], config["K"]) if "dt_bias" in x else g
        rate = x["A_log"].exp()[:, None] if "A_log" in x else 1.0
        g = -rate * F.softplus(z, threshold=1e9) if config["lower_bound"] is None else (
            config["lower_bound"] * torch.sigmoid(rate * z))
    if config["use_beta_sigmoid"]:
        beta = (2.0 if config["allow_neg_eigval"] else 1.0) * torch.sigmoid(beta)
    return q, k, g, beta


def naive(case, x, device):
    """o and ht, step by step, in float32 (float64 where the case is)."""
    config = case.config
    compute = torch.float64 if config["dtype"] == "f64" else torch.float32
    q, k, g, beta = prepare(case, {name: y.to(compute) for name, y in x.items() if y.is_floating_point()})
    v, group = x["v"].to(compute), config["HV"] // config["H"]
    q, k = (y.repeat_interleave(group, dim=2) for y in (q * config["scale"], k))
    zeros = torch.zeros(config["HV"], config["K"], config["V"], dtype=compute, device=device)
    h0 = x["h0"].to(compute) if "h0" in x else None
    if h0 is not None and config["state_v_first"]:
        h0 = h0.transpose(-1, -2)

    rows = [[] for _ in range(config["B"])]
    last = [zeros] * config["N"]
    for row, begin, end, state_in, state_out in case.sequences():
        S = zeros if state_in is None or h0 is None else h0[state_in]
        for t in range(begin, end):
            decayed = g[row, t].exp()[..., None] * S
            delta = v[row, t] - torch.einsum("hkv,hk->hv", decayed, k[row, t])
            S = decayed + (beta[row, t][:, None] * k[row, t])[..., None] * delta[:, None, :]
            rows[row].append(torch.einsum("hkv,hk->hv", S, q[row, t]))
        if state_out is not None:
            last[state_out] = S
    o = torch.stack([torch.stack(row) if row else v[0] for row in rows])
    ht = torch.stack(last)
    return o.to(x["v"].dtype), ht.transpose(-1, -2) if config["state_v_first"] else ht


def fla_arguments(case, x):
    """What chunk_kda and fused_recurrent_kda call their arguments."""
    config = case.config
    if "segment_ids" in x:
        raise Unsupported("segment_ids")
    if config["dtype"] == "f64":
        raise Unsupported("float64")
    if config["T"] == 0:
        raise Unsupported("no tokens")
    arguments = {name: x[name] for name in ("q", "k", "v", "g", "beta")}
    arguments |= dict(
        scale=config["scale"],
        initial_state=x.get("h0"),
        output_final_state=config["output_final_state"],
        use_qk_l2norm_in_kernel=config["use_qk_l2norm"],
        use_gate_in_kernel=config["use_gate"],
        use_beta_sigmoid_in_kernel=config["use_beta_sigmoid"],
        allow_neg_eigval=config["allow_neg_eigval"],
        state_v_first=config["state_v_first"],
        cu_seqlens=x.get("cu_seqlens"),
    )
    if config["use_gate"]:
        arguments |= dict(A_log=x.get("A_log"), dt_bias=x.get("dt_bias"), lower_bound=config["lower_bound"])
    return arguments


def fla_chunk(case, x, device):
    from fla.ops.kda import chunk_kda

    if case.config["K"] > 256:
        raise Unsupported("K above 256")
    if case.config["chunk_size"] not in (32, 64):
        raise Unsupported("chunk_size other than 32 and 64")
    return chunk_kda(**fla_arguments(case, x), safe_gate=case.config["safe_gate"],
                     chunk_size=case.config["chunk_size"])


def fla_recurrent(case, x, device):
    from fla.ops.kda import fused_recurrent_kda

    return fused_recurrent_kda(**fla_arguments(case, x))


def fla_naive(case, x, device):
    from fla.ops.kda.naive import naive_recurrent_kda

    config = case.config
    if config["varlen"] or "segment_ids" in x:
        raise Unsupported("packed sequences")
    if config["dtype"] == "f64":
        raise Unsupported("float64")
    q, k, g, beta = prepare(case, {name: y.float() for name, y in x.items()})
    h0 = x.get("h0")
    if h0 is not None and config["state_v_first"]:
        h0 = h0.transpose(-1, -2)
    o, ht = naive_recurrent_kda(q, k, x["v"], g, beta, config["scale"], h0, config["output_final_state"])
    return o, ht.transpose(-1, -2) if ht is not None and config["state_v_first"] else ht


IMPLEMENTATIONS = {"naive": naive, "fla-chunk": fla_chunk, "fla-recurrent": fla_recurrent, "fla-naive": fla_naive}
FORWARD_ONLY = ("fla-recurrent",)


def tensors_of(case, device):
    """The inputs as the case has them: .npy files hold bfloat16 as float32."""
    dtype = DTYPES[case.config["dtype"]]
    x = {name: torch.tensor(np.array(array), device=device) for name, array in case.inputs.items()}
    for name, y in x.items():
        if y.is_floating_point():
            x[name] = (y if name in WIDE and dtype != torch.float64 else y.to(dtype)).requires_grad_()
    return x


def gradients(case, x, outputs):
    """d + name of every floating-point input, for the loss that the case's upstream gradients stand for."""
    loss = sum((outputs[name] * torch.tensor(np.array(upstream)).to(outputs[name])).sum()
               for name, upstream in case.upstream.items())
    leaves = {name: y for name, y in x.items() if y.requires_grad}
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True) if loss.requires_grad else [None] * 10
    return {"d" + name: torch.zeros_like(y) if dy is None else dy for (name, y), dy in zip(leaves.items(), found)}


def run(case, implementation, device):
    """Every result that the case asks for and the implementation has, as numpy arrays."""
    x = tensors_of(case, device)
    o, ht = IMPLEMENTATIONS[implementation](case, x, device)
    results = {"o": o, "ht": ht}
    if case.upstream and implementation not in FORWARD_ONLY:
        results |= gradients(case, x, results)
    return {name: results[name].detach().to("cpu", torch.float64 if case.config["dtype"] == "f64" else torch.float32)
            .numpy() for name in case.results if name in results}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--impl", choices=IMPLEMENTATIONS, default="naive")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    interpreted = arguments.impl == "fla-recurrent" and os.environ.get("TRITON_INTERPRET") == "1"
    if arguments.impl in ("fla-chunk", "fla-recurrent") and arguments.device == "cpu" and not interpreted:
        parser.error(f"{arguments.impl} is a Triton kernel and needs a GPU (fla-recurrent: or TRITON_INTERPRET=1)")
    left_out = Counter()
    count = 0
    for case in deltatape_cases.load(arguments.folder):
        try:
            case.write(run(case, arguments.impl, arguments.device))
            count += 1
        except Unsupported as reason:
            left_out[str(reason)] += 1
    reasons = ", ".join(f"{number} for {reason}" for reason, number in left_out.items())
    print(f"{count} cases written, {left_out.total()} not supported{': ' if reasons else ''}{reasons}")
    more = " --results o,ht" if arguments.impl in FORWARD_ONLY else ""
    print(f"now: deltatape cases check {arguments.folder}{more}")


if __name__ == "__main__":
    main()
