"""Kimi Delta Attention in plain numpy, forward and backward, as an example of a kernel that is checked through files.

    deltatape cases make --out cases
    python3 examples/interop/check_numpy.py cases
    deltatape cases check cases

Needs numpy only. Replace `kda` by a call of your own kernel.
"""

import sys

import numpy as np

import deltatape_cases


def sigmoid(x):
    return np.exp(-np.logaddexp(0, -x)).astype(x.dtype)


def normalize(x):
    """x / |x| over the channels, and what its backward needs."""
    inverse = 1 / np.sqrt((x * x).sum(-1, keepdims=True) + 1e-6)
    return x * inverse, inverse


def normalize_backward(dy, y, inverse):
    return (dy - y * (dy * y).sum(-1, keepdims=True)) * inverse


def run_sequence(q, k, v, g, beta, S):
    """S <- diag(e^g) S; S <- S + beta k (v - S'k)'; o = S'q, for q k g [T,HV,K], v [T,HV,V], beta [T,HV], S [HV,K,V].

    Returns o, the last state, and the state before every step with the decayed one.
    """
    o, states = np.empty_like(v), []
    for t in range(len(q)):
        decayed = np.exp(g[t])[..., None] * S
        delta = v[t] - np.einsum("hkv,hk->hv", decayed, k[t])
        states.append((S, decayed, delta))
        S = decayed + (beta[t][:, None] * k[t])[..., None] * delta[:, None, :]
        o[t] = np.einsum("hkv,hk->hv", S, q[t])
    return o, S, states


def run_sequence_backward(q, k, g, beta, states, last, do, dS):
    """The gradients of run_sequence's inputs, from those of o and of the last state."""
    dq, dk, dg, dbeta, dv = (np.empty_like(x) for x in (q, k, g, beta, do))
    S = last
    for t in reversed(range(len(q))):
        before, decayed, delta = states[t]
        dq[t] = np.einsum("hkv,hv->hk", S, do[t])
        dS = dS + q[t][..., None] * do[t][:, None, :]
        d_write = np.einsum("hkv,hk->hv", dS, k[t])  # of beta delta
        d_delta = beta[t][:, None] * d_write
        dbeta[t] = (d_write * delta).sum(-1)
        dv[t] = d_delta
        dk[t] = np.einsum("hkv,hv->hk", dS, beta[t][:, None] * delta) - np.einsum("hkv,hv->hk", decayed, d_delta)
        d_decayed = dS - k[t][..., None] * d_delta[:, None, :]
        dg[t] = (d_decayed * decayed).sum(-1)
        dS = np.exp(g[t])[..., None] * d_decayed
        S = before
    return dq, dk, dv, dg, dbeta, dS


def kda(case):
    """Every result that the case asks for."""
    config, dtype = case.config, np.float64 if case.config["dtype"] == "f64" else np.float32
    x = {name: array.astype(dtype) for name, array in case.inputs.items() if array.dtype.kind == "f"}
    B, T, H, HV, K, V, N = (config[name] for name in ("B", "T", "H", "HV", "K", "V", "N"))
    scale = dtype(config["scale"])

    # Norm, gate and sigmoid; the value heads of a group share q and k.
    q, k, g, beta = x["q"], x["k"], x["g"], x["beta"]
    if config["use_qk_l2norm"]:
        (q, q_inverse), (k, k_inverse) = normalize(q), normalize(k)
    if config["use_gate"]:
        z = g + x["dt_bias"].reshape(HV, K) if "dt_bias" in x else g
        rate = np.exp(x["A_log"])[:, None] if "A_log" in x else np.ones((HV, 1), dtype)
        if config["lower_bound"] is None:
            g = -rate * np.logaddexp(z, dtype(0))
        else:
            g = dtype(config["lower_bound"]) * sigmoid(rate * z)
    if config["use_beta_sigmoid"]:
        strength = dtype(2 if config["allow_neg_eigval"] else 1)
        beta = strength * sigmoid(beta)
    q_heads, k_heads = (np.repeat(array, HV // H, axis=2) for array in (scale * q, k))
    v_first = (lambda S: S.swapaxes(-1, -2)) if config["state_v_first"] else (lambda S: S)
    zeros = np.zeros((N, HV, K, V), dtype)
    h0 = v_first(x["h0"]) if "h0" in x else zeros
    do = case.upstream.get("o", np.zeros((B, T, HV, V))).astype(dtype)
    dht = v_first(case.upstream["ht"].astype(dtype)) if "ht" in case.upstream else zeros

    o, ht, dh0 = np.zeros((B, T, HV, V), dtype), zeros.copy(), zeros.copy()
    dq, dk, dv, dg, dbeta = (np.zeros_like(array) for array in (q_heads, k_heads, x["v"], g, beta))
    for row, begin, end, state_in, state_out in case.sequences():
        at = (row, slice(begin, end))
        first = np.zeros((HV, K, V), dtype) if state_in is None else h0[state_in]
        o[at], last, states = run_sequence(q_heads[at], k_heads[at], x["v"][at], g[at], beta[at], first)
        d_last = np.zeros((HV, K, V), dtype) if state_out is None else dht[state_out]
        gradients = run_sequence_backward(q_heads[at], k_heads[at], g[at], beta[at], states, last, do[at], d_last)
        dq[at], dk[at], dv[at], dg[at], dbeta[at], d_first = gradients
        if state_out is not None:
            ht[state_out] = last
        if state_in is not None:
            dh0[state_in] = d_first

    # Back through heads, norm, gate and sigmoid.
    dq, dk = (array.reshape(B, T, H, HV // H, K).sum(3) for array in (scale * dq, dk))
    results = {"o": o, "ht": v_first(ht), "dv": dv, "dh0": v_first(dh0)}
    if config["use_qk_l2norm"]:
        dq, dk = normalize_backward(dq, q, q_inverse), normalize_backward(dk, k, k_inverse)
    if config["use_gate"]:
        if config["lower_bound"] is None:
            results["dA_log"] = (dg * g).sum((0, 1, 3))
            dg = dg * -rate * sigmoid(z)
        else:
            slope = dtype(config["lower_bound"]) * sigmoid(rate * z) * sigmoid(-rate * z)
            results["dA_log"] = (dg * slope * rate * z).sum((0, 1, 3))
            dg = dg * slope * rate
        results["ddt_bias"] = dg.sum((0, 1)).reshape(HV * K)
    if config["use_beta_sigmoid"]:
        dbeta = dbeta * beta * sigmoid(-x["beta"])
    results.update(dq=dq, dk=dk, dg=dg, dbeta=dbeta)
    return {name: results[name] for name in case.results}


def main(folder):
    count = 0
    for case in deltatape_cases.load(folder):
        with np.errstate(over="ignore"):
            case.write(kda(case))
        count += 1
    print(f"{count} cases written; now: deltatape cases check {folder}")


if __name__ == "__main__":
    main(sys.argv[1])
