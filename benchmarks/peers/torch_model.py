"""The KDA language model of nn/kda_model.h in PyTorch, on the batched chunk form of torch_chunk.py.

Reads the same config.json (FLA's keys) and takes the same parameters under the same names.
"""

import torch
import torch.nn.functional as F
from torch import nn

import torch_chunk


def linear(n_in, n_out, bias=False):
    return nn.Linear(n_in, n_out, bias=bias)


class ShortConvolution(nn.Module):
    """Causal depthwise convolution over time, then silu: F.conv1d with as many groups as channels, or with `shifted` a
    sum of shifted copies, which is quicker where there are many channels."""

    def __init__(self, channels, width, shifted):
        super().__init__()
        self.weight, self.shifted = nn.Parameter(torch.empty(channels, 1, width)), shifted

    def forward(self, x):
        channels, _, width = self.weight.shape
        T = x.shape[1]
        if not self.shifted:
            y = F.conv1d(x.transpose(1, 2), self.weight, padding=width - 1, groups=channels)
            return F.silu(y[..., :T].transpose(1, 2))
        padded = F.pad(x, (0, 0, width - 1, 0))
        y = padded[:, :T] * self.weight[:, 0, 0]
        for i in range(1, width):
            y = torch.addcmul(y, padded[:, i : i + T], self.weight[:, 0, i])
        return F.silu(y)


class GatedRMSNorm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.empty(dim)), eps

    def forward(self, x, gate):
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps) * torch.sigmoid(gate)


class KimiDeltaAttention(nn.Module):
    def __init__(self, c, attention, shifted):
        super().__init__()
        hidden, self.H, self.K = c["hidden_size"], c["num_heads"], c["head_dim"]
        width, self.lower_bound, self.attention = self.H * self.K, c.get("lower_bound"), attention
        self.q_proj, self.k_proj, self.v_proj = (linear(hidden, width) for _ in range(3))
        self.q_conv1d, self.k_conv1d, self.v_conv1d = (
            ShortConvolution(width, c["conv_size"], shifted) for _ in range(3))
        self.f_proj = nn.Sequential(linear(hidden, self.K), linear(self.K, width))
        self.b_proj = linear(hidden, self.H)
        self.A_log = nn.Parameter(torch.empty(self.H))
        self.dt_bias = nn.Parameter(torch.empty(width))
        self.g_proj = nn.Sequential(linear(hidden, self.K), linear(self.K, width, bias=True))
        self.o_norm = GatedRMSNorm(self.K, c["norm_eps"])
        self.o_proj = linear(width, hidden)

    def forward(self, x):
        def heads(y):
            return y.unflatten(-1, (self.H, self.K))

        q, k, v = (heads(conv(proj(x))) for conv, proj in (
            (self.q_conv1d, self.q_proj), (self.k_conv1d, self.k_proj), (self.v_conv1d, self.v_proj)))
        o = torch_chunk.kda(q, k, v, heads(self.f_proj(x)), self.b_proj(x), self.A_log, self.dt_bias, self.lower_bound,
                            self.attention)
        return self.o_proj(self.o_norm(o, heads(self.g_proj(x))).flatten(-2))


class SwiGLU(nn.Module):
    def __init__(self, hidden, inner):
        super().__init__()
        self.gate_proj, self.up_proj = linear(hidden, inner), linear(hidden, inner)
        self.down_proj = linear(inner, hidden)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class KDABlock(nn.Module):
    def __init__(self, c, attention, shifted):
        super().__init__()
        self.attn_norm = nn.RMSNorm(c["hidden_size"], eps=c["norm_eps"])
        self.attn = KimiDeltaAttention(c, attention, shifted)
        self.mlp_norm = nn.RMSNorm(c["hidden_size"], eps=c["norm_eps"])
        self.mlp = SwiGLU(c["hidden_size"], c["intermediate_size"])

    def forward(self, h):
        h = h + self.attn(self.attn_norm(h))
        return h + self.mlp(self.mlp_norm(h))


class KDAForCausalLM(nn.Module):
    """Logits [B,T,vocab_size] of ids [B,T]; `config` is a config.json as a dictionary, without tied embeddings."""

    def __init__(self, config, attention=torch_chunk.kda_chunk, shifted=True):
        super().__init__()
        self.model = nn.Module()
        self.model.embeddings = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.model.layers = nn.ModuleList(
            KDABlock(config, attention, shifted) for _ in range(config["num_hidden_layers"]))
        self.model.norm = nn.RMSNorm(config["hidden_size"], eps=config["norm_eps"])
        self.lm_head = linear(config["hidden_size"], config["vocab_size"])

    def forward(self, ids):
        h = self.model.embeddings(ids)
        for layer in self.model.layers:
            h = layer(h)
        return self.lm_head(self.model.norm(h))


class Training:
    """Steps of AdamW with clipped gradients: the options of `deltatape train`, in PyTorch's fused forms."""

    def __init__(self, model, ids, targets):
        self.model, self.ids, self.targets = model, ids, targets
        self.parameters = list(model.parameters())
        groups = [{"params": [p for p in self.parameters if p.ndim >= 2], "weight_decay": 0.1},
                  {"params": [p for p in self.parameters if p.ndim < 2], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, fused=True)

    def loss(self):
        return F.cross_entropy(self.model(self.ids).flatten(0, 1), self.targets.flatten())

    def gradients(self):
        """Of the loss, by the parameters' names. Changes no parameter."""
        names, parameters = zip(*self.model.named_parameters())
        return dict(zip(names, torch.autograd.grad(self.loss(), parameters)))

    def step(self):
        """The loss before the step."""
        loss = self.loss()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return loss.item()
