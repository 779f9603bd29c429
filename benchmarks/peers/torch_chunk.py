"""Kimi Delta Attention in batched PyTorch: what a PyTorch user writes who wants it quick without a kernel of their own.

All chunks at once by matrix products, with the decay in two factors around the middle of the chunk,
exp(G_i - G_a) exp(G_a - G_j). That overflows in float32 where a chunk decays by more than e^88 on either side of its
middle, which deltatape and Triton kernels avoid. Only the state goes through a loop, over chunks. Backward is
autograd's. torch.compile is left out: it compiles for up to minutes for each shape.
"""

import torch
import torch.nn.functional as F


def l2norm(x):
    """x / sqrt(x.x + 1e-6) over the last dimension."""
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def gate(g, A_log, dt_bias, lower_bound=None):
    """Log decays of gate logits g [B,T,H,K]: the standard gate, or the one with a lower bound."""
    z = g + dt_bias.view(g.shape[-2:])
    rate = A_log.exp()[:, None]
    return -rate * F.softplus(z) if lower_bound is None else lower_bound * torch.sigmoid(rate * z)


def unit_lower_inverse(L):
    """(1 + L)^-1 for L [...,C,C] strictly lower triangular, by batched products alone:
    (1 - L)(1 + L^2)(1 + L^4)..., which ends since L^C = 0. Several times quicker on a CPU than
    torch.linalg.solve_triangular, which goes through the batch one matrix after another."""
    eye = torch.eye(L.shape[-1], dtype=L.dtype, device=L.device)
    inverse, power, reached = eye - L, L, 2
    while reached < L.shape[-1]:
        power = power @ power
        inverse = inverse + inverse @ power
        reached *= 2
    return inverse


def within_chunks(q, k, v, g, beta, chunk, solve):
    """Everything that needs no state, for all chunks at once: w, u, Aqk, q and k with their decays, and the decay of a
    whole chunk; [B,N,H,chunk,D] all."""
    B, T, H, K = q.shape

    def chunks(x):
        return x.reshape(B, T // chunk, chunk, H, -1).transpose(2, 3)

    q, k, v, g, beta = chunks(q * K**-0.5), chunks(k), chunks(v), chunks(g), chunks(beta)
    G = g.cumsum(-2)
    around = G - G[..., chunk // 2 - 1 : chunk // 2, :]
    decay, growth = around.exp(), (-around).exp()
    end = G[..., -1:, :]
    from_start = G.exp()
    k_anchored = (k * growth).transpose(-1, -2)

    Akk = beta * ((k * decay) @ k_anchored).tril(-1)
    Aqk = ((q * decay) @ k_anchored).tril()
    right = beta * torch.cat([k * from_start, v], -1)
    if solve == "products":
        wu = unit_lower_inverse(Akk) @ right
    else:
        wu = torch.linalg.solve_triangular(Akk, right, upper=False, unitriangular=True)
    w, u = wu.split([K, v.shape[-1]], -1)
    kg = (k * (end - G).exp()).transpose(-1, -2)
    return w, u, Aqk, q * from_start, kg, end.exp().transpose(-1, -2)


def kda_chunk(q, k, v, g, beta, chunk=64, solve="products"):
    """o [B,T,H,V] of q, k, g [B,T,H,K] (q and k normed, g log decays), v [B,T,H,V] and beta [B,T,H] (in (0,1)); T is a
    multiple of `chunk`."""
    w, u, Aqk, qg, kg, end = within_chunks(q, k, v, g, beta, chunk, solve)
    S = w.new_zeros(w.shape[0], w.shape[2], w.shape[-1], u.shape[-1])
    states, v_new = [], []
    for w_n, u_n, kg_n, end_n in zip(w.unbind(1), u.unbind(1), kg.unbind(1), end.unbind(1)):
        states.append(S)
        v_new.append(u_n - w_n @ S)
        S = end_n * S + kg_n @ v_new[-1]
    o = qg @ torch.stack(states, 1) + Aqk @ torch.stack(v_new, 1)
    return o.transpose(2, 3).flatten(1, 2)


def kda_chunk_plain(q, k, v, g, beta, chunk=64):
    """The same as kda_chunk, nearer to how FLA's naive_chunk_kda is written: only its two loops over the columns of Akk
    and Aqk have become products. Rows of the inverse one after another, outputs in the loop over chunks."""
    B, T, H, K = q.shape
    N = T // chunk

    def chunks(x):
        return x.reshape(B, N, chunk, H, -1).permute(0, 3, 1, 2, 4)  # [B,H,N,chunk,D]

    q, k, v, g, beta = chunks(q * K**-0.5), chunks(k), chunks(v), chunks(g), chunks(beta)
    g = g.cumsum(-2)
    around = g - g[..., chunk // 2 - 1 : chunk // 2, :]
    right = (k * (-around).exp()).transpose(-1, -2)
    A = -(beta * ((k * around.exp()) @ right)).tril(-1)
    for i in range(1, chunk):
        A[..., i, :i] = A[..., i, :i].clone() + (A[..., i, :, None].clone() * A[..., :, :i].clone()).sum(-2)
    A = (A + torch.eye(chunk, dtype=A.dtype, device=A.device)) * beta.transpose(-1, -2)
    w = A @ (g.exp() * k)
    u = A @ v
    Aqk = ((q * around.exp()) @ right).tril()

    S = q.new_zeros(B, H, K, v.shape[-1])
    o = torch.zeros_like(v)
    for i in range(N):
        q_i, k_i, g_i = q[:, :, i], k[:, :, i], g[:, :, i]
        v_i = u[:, :, i] - w[:, :, i] @ S
        o[:, :, i] = (q_i * g_i.exp()) @ S + Aqk[:, :, i] @ v_i
        S = S * g_i[:, :, -1, :, None].exp() + (k_i * (g_i[:, :, -1:] - g_i).exp()).transpose(-1, -2) @ v_i
    return o.permute(0, 2, 3, 1, 4).reshape(B, T, H, -1)


def kda(q, k, v, g, beta, A_log, dt_bias, lower_bound=-5.0, attention=kda_chunk):
    """The whole operator: L2 norm of q and k, gate, sigmoid of beta, then `attention`."""
    return attention(l2norm(q), l2norm(k), v, gate(g, A_log, dt_bias, lower_bound), torch.sigmoid(beta))
