"""Checks a KDA kernel of JAX through files: jax.grad of a recurrence by lax.scan stands for it here.

    deltatape cases make --out cases
    python3 examples/interop/check_jax.py cases
    deltatape cases check cases

Needs numpy and jax (on a CPU: jax[cpu]). Who writes a Pallas kernel replaces `recurrence`; all else stays.
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import deltatape_cases

jax.config.update("jax_enable_x64", True)  # for cases in float64; those in float32 stay in float32
DTYPES = {"f64": jnp.float64, "f32": jnp.float32, "bf16": jnp.bfloat16, "f16": jnp.float16}


def recurrence(q, k, v, g, beta, h0):
    """One sequence: q k g [T,HV,K], v [T,HV,V], beta [T,HV], h0 [HV,K,V]. Returns o [T,HV,V] and the last state."""

    def step(S, token):
        q, k, v, g, beta = token
        S = jnp.exp(g)[..., None] * S
        delta = v - jnp.einsum("hkv,hk->hv", S, k)
        S = S + (beta[:, None] * k)[..., None] * delta[:, None, :]
        return S, jnp.einsum("hkv,hk->hv", S, q)

    last, o = jax.lax.scan(step, h0, (q, k, v, g, beta))
    return o, last


def kda(x, options, sequences):
    """o and ht of a whole case, in float32 (float64 where the case is)."""
    config = dict(options)
    compute = jnp.float64 if config["dtype"] == "f64" else jnp.float32
    out_dtype = x["v"].dtype
    x = {name: array.astype(compute) for name, array in x.items()}
    q, k, v, g, beta = (x[name] for name in ("q", "k", "v", "g", "beta"))
    HV, K, V, N = (config[name] for name in ("HV", "K", "V", "N"))
    if config["use_qk_l2norm"]:
        q, k = (y * jax.lax.rsqrt((y * y).sum(-1, keepdims=True) + 1e-6) for y in (q, k))
    if config["use_gate"]:
        z = g + x["dt_bias"].reshape(HV, K) if "dt_bias" in x else g
        rate = jnp.exp(x["A_log"])[:, None] if "A_log" in x else 1.0
        lower_bound = config["lower_bound"]
        g = -rate * jax.nn.softplus(z) if lower_bound is None else lower_bound * jax.nn.sigmoid(rate * z)
    if config["use_beta_sigmoid"]:
        beta = (2.0 if config["allow_neg_eigval"] else 1.0) * jax.nn.sigmoid(beta)
    q, k = (jnp.repeat(y, HV // config["H"], axis=2) for y in (config["scale"] * q, k))
    v_first = (lambda S: S.swapaxes(-1, -2)) if config["state_v_first"] else (lambda S: S)
    h0 = v_first(x["h0"]) if "h0" in x else jnp.zeros((N, HV, K, V), compute)

    o, ht = jnp.zeros_like(v), jnp.zeros_like(h0)
    for row, begin, end, state_in, state_out in sequences:
        first = jnp.zeros((HV, K, V), compute) if state_in is None else h0[state_in]
        o_sequence, last = recurrence(*(y[row, begin:end] for y in (q, k, v, g, beta)), first)
        o = o.at[row, begin:end].set(o_sequence)
        if state_out is not None:
            ht = ht.at[state_out].set(last)
    return {"o": o.astype(out_dtype), "ht": v_first(ht)}


@partial(jax.jit, static_argnums=(2, 3))
def run(x, upstream, options, sequences):
    """Outputs, and the gradients of the loss that the upstream gradients stand for."""

    def loss(x):
        outputs = kda(x, options, sequences)
        return sum((outputs[name] * dy.astype(outputs[name].dtype)).sum() for name, dy in upstream.items())

    results = kda(x, options, sequences)
    if upstream:
        results |= {"d" + name: dy for name, dy in jax.grad(loss)(x).items()}
    return results


def main(folder):
    count = 0
    for case in deltatape_cases.load(folder):
        dtype = DTYPES[case.config["dtype"]]
        wide = dtype if dtype == jnp.float64 else jnp.float32
        x = {name: jnp.asarray(array, wide if name in ("A_log", "dt_bias", "h0") else dtype)
             for name, array in case.inputs.items() if array.dtype.kind == "f"}
        results = run(x, case.upstream, tuple(sorted(case.config.items())), tuple(case.sequences()))
        out = np.float64 if dtype == jnp.float64 else np.float32  # numpy has no bfloat16
        case.write({name: np.asarray(results[name].astype(out)) for name in case.results})
        count += 1
    print(f"{count} cases written; now: deltatape cases check {folder}")


if __name__ == "__main__":
    main(sys.argv[1])
