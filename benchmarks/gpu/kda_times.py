"""Times of KDA on a GPU, ours and FLA's Triton kernels in turns on the same tensors.

Usage: kda_times.py --library libdeltatape_kda_gpu.so --ceilings ceilings.json --json FILE [--quick] [--seconds N]
                    [--versions]

Without torch, triton or fla only ours is timed. Prints one line per shape and pass; FILE gets the same as rows.
"""

import argparse
import ctypes
import json
import random
import statistics
import sys
import time

FLUSH_BYTES = 256 << 20  # several times the L2
ROUNDS = 50  # of which the median counts
REFUSAL = "does not run here"  # in what the library says of a version that does not take a problem


class Library:
    """The C interface of kda_library.h."""

    def __init__(self, path):
        self.c = ctypes.CDLL(path)
        self.c.deltatape_kda_error.restype = ctypes.c_char_p
        self.c.deltatape_kda_open.restype = ctypes.c_void_p
        self.c.deltatape_kda_open.argtypes = [ctypes.c_char_p]
        self.c.deltatape_kda_close.argtypes = [ctypes.c_void_p]
        self.c.deltatape_kda_plan.restype = ctypes.c_char_p
        self.c.deltatape_kda_plan.argtypes = [ctypes.c_void_p]
        self.c.deltatape_kda_tensor.restype = ctypes.c_void_p
        self.c.deltatape_kda_tensor.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int64)]
        self.c.deltatape_kda_run.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self.c.deltatape_kda_time.restype = ctypes.c_double
        self.c.deltatape_kda_time.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64]
        self.c.deltatape_kda_synchronize.argtypes = [ctypes.c_void_p]
        self.c.deltatape_kda_peak_bytes.restype = ctypes.c_int64
        self.c.deltatape_kda_peak_bytes.argtypes = [ctypes.c_void_p]

    def error(self):
        return RuntimeError(self.c.deltatape_kda_error().decode())


class Ours:
    def __init__(self, library, problem):
        self.library = library
        self.handle = library.c.deltatape_kda_open(json.dumps(problem).encode())
        if not self.handle:
            raise library.error()
        self.plan = library.c.deltatape_kda_plan(self.handle).decode()

    def close(self):
        self.library.c.deltatape_kda_close(self.handle)

    def run(self, name):
        if self.library.c.deltatape_kda_run(self.handle, name.encode()) != 0:
            raise self.library.error()

    def milliseconds(self, name):
        ms = self.library.c.deltatape_kda_time(self.handle, name.encode(), FLUSH_BYTES)
        if not ms >= 0:
            raise self.library.error()
        return ms

    def pointer(self, name):
        size = ctypes.c_int64()
        address = self.library.c.deltatape_kda_tensor(self.handle, name.encode(), ctypes.byref(size))
        if not address:
            raise self.library.error()
        return address, size.value

    def synchronize(self):
        if self.library.c.deltatape_kda_synchronize(self.handle) != 0:
            raise self.library.error()

    def peak_bytes(self):
        return self.library.c.deltatape_kda_peak_bytes(self.handle)


class Fla:
    """FLA's kernels on the tensors of an open problem of ours."""

    def __init__(self, ours, problem):
        import torch
        from fla.ops.kda import chunk_kda, fused_recurrent_kda

        self.torch, self.chunk_kda, self.fused_recurrent_kda = torch, chunk_kda, fused_recurrent_kda
        B, T, H, HV, K, V = (problem[name] for name in ("B", "T", "H", "HV", "K", "V"))
        shapes = {"q": (B, T, H, K), "k": (B, T, H, K), "v": (B, T, HV, V), "g": (B, T, HV, K), "beta": (B, T, HV)}
        decode = problem.get("decode", False)
        if not decode:
            shapes["do"] = (B, T, HV, V)
        self.tensors = {name: self.view(ours, name, shape, torch.bfloat16) for name, shape in shapes.items()}
        self.tensors["A_log"] = self.view(ours, "A_log", (HV,), torch.float32)
        self.tensors["dt_bias"] = self.view(ours, "dt_bias", (HV * K,), torch.float32)
        self.flushed = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
        self.options = dict(use_qk_l2norm_in_kernel=True, use_gate_in_kernel=True, use_beta_sigmoid_in_kernel=True,
                            lower_bound=-5.0)
        if decode:
            # A copy: both change their states in place.
            self.pool = self.view(ours, "pool", (B, HV, K, V), torch.float32).clone()
            self.runs = {"decode": self.decode}
            return
        self.do = self.tensors.pop("do")
        self.leaves = [tensor.detach().requires_grad_() for tensor in self.tensors.values()]
        self.options["safe_gate"] = True
        if "lengths" in problem:
            bounds = [0]
            for length in problem["lengths"]:
                bounds.append(bounds[-1] + length)
            self.options["cu_seqlens"] = torch.tensor(bounds, device="cuda")
            self.options["cu_seqlens_cpu"] = torch.tensor(bounds)
        self.runs = {"forward": self.forward, "record": self.record, "backward": self.backward, "both": self.both}

    def view(self, ours, name, shape, dtype):
        """Our tensor as one of torch's, not copied."""
        address, size = ours.pointer(name)
        count = 1
        for extent in shape:
            count *= extent
        assert size == count * dtype.itemsize, f"{name} has {size} bytes, expected {count} elements of {dtype}"

        class Memory:
            __cuda_array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (address, False), "version": 3}

        return self.torch.as_tensor(Memory(), device="cuda").view(dtype).view(shape)

    def call(self, tensors):
        q, k, v, g, beta, A_log, dt_bias = tensors
        return self.chunk_kda(q, k, v, g, beta, A_log=A_log, dt_bias=dt_bias, **self.options)[0]

    def forward(self):
        with self.torch.no_grad():
            return self.call(self.tensors.values())

    def record(self):
        self.o = self.call(self.leaves)

    def backward(self):
        self.gradients = self.torch.autograd.grad(self.o, self.leaves, self.do, retain_graph=True)

    def both(self):
        self.gradients = self.torch.autograd.grad(self.call(self.leaves), self.leaves, self.do)

    def decode(self):
        with self.torch.no_grad():
            self.fused_recurrent_kda(**self.tensors, initial_state=self.pool, output_final_state=True, **self.options)

    def run(self, name):
        self.runs[name]()

    def milliseconds(self, name):
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.flushed.fill_(1)
        begin.record()
        self.runs[name]()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    def difference(self, ours):
        """Relative RMS distance of our last results from FLA's, per tensor. Two bf16 kernels: no verdict."""
        self.record()
        self.backward()
        pairs = {"o": self.o}
        pairs.update({"d" + name: grad for name, grad in zip(self.tensors, self.gradients)})
        distances = {}
        for name, theirs in pairs.items():
            mine = self.view(ours, name, tuple(theirs.shape), theirs.dtype).double()
            theirs = theirs.detach().double()
            distances[name] = float((mine - theirs).square().mean().sqrt() / (theirs.square().mean().sqrt() + 1e-8))
        return distances


def uneven_lengths(total, count, seed=1):
    cuts = sorted(random.Random(seed).sample(range(1, total), count - 1))
    return [b - a for a, b in zip([0] + cuts, cuts + [total])]


def shapes(quick):
    def problem(name, B, T, H, HV=None, K=128, V=128, **more):
        return dict(name=name, B=B, T=T, H=H, HV=HV or H, K=K, V=V, **more)

    if quick:
        return [problem("B1 T130 H1 K=V=64", 1, 130, 1, K=64, V=64), problem("3 sequences, HV=2", 1, 96, 1, 2, K=64, V=64,
                                                                             lengths=uneven_lengths(96, 3))]
    return [problem("S0: B1 T8192 H64", 1, 8192, 64),
            problem("B2 T8192 H64", 2, 8192, 64),
            problem("B1 T65536 H8", 1, 65536, 8),
            problem("B1 T8192 H16 HV64", 1, 8192, 16, 64),
            problem("20 sequences, sum 8192, H64", 1, 8192, 64, lengths=uneven_lengths(8192, 20)),
            problem("B4 T2048 H32 K=V=64", 4, 2048, 32, K=64, V=64)]


def decode_shapes(quick):
    if quick:
        return [dict(name="decode N=2 HV=1", B=2, T=1, H=1, HV=1, K=64, V=64, decode=True)]
    return [dict(name=f"decode N={N} HV={HV}", B=N, T=1, H=HV, HV=HV, K=128, V=128, decode=True)
            for N, HV in ((256, 64), (32, 64), (2, 64), (1, 32))]


def bytes_of(problem, name):
    """The least that a pass moves in bf16: every input read once, every result written once (docs/gpu-results.md)."""
    name = name.split()[0]
    B, T, H, HV, K, V = (problem[key] for key in ("B", "T", "H", "HV", "K", "V"))
    if name == "decode":
        return B * HV * K * V * 4 * 2
    qk, g, v, beta = 2 * B * T * H * K, B * T * HV * K, B * T * HV * V, B * T * HV
    forward = 2 * (qk + g + 2 * v + beta)
    backward = 2 * (2 * (qk + g + v + beta) + v)
    return {"forward": forward, "backward": backward, "both": forward + backward}[name]


def flops_of(problem, name):
    """Of the chunk form with 64 tokens, per chunk and value head 11.8 M forward and 28.4 M backward at K = V = 128."""
    name = name.split()[0]
    if name == "decode":
        return 0
    share = problem["K"] * problem["V"] / 128**2  # exact for the state's products, within 15 % for the others
    chunks = problem["B"] * problem["HV"] * -(-problem["T"] // 64)
    return chunks * share * {"forward": 11.8e6, "backward": 28.4e6, "both": 40.2e6}[name]


def row_of(problem, name, ours, theirs, ceilings, plan):
    row = dict(shape=problem["name"], **{"pass": name}, plan=plan, ms=ours, fla_ms=theirs)
    row["ratio"] = theirs / ours if theirs else None
    row["gb_per_s"] = bytes_of(problem, name) / ours / 1e6
    row["tflops"] = flops_of(problem, name) / ours / 1e9
    if ceilings:
        rate = max(ceilings["mma_sync_flops"], ceilings["wgmma_flops"] or 0)
        floor = 1e3 * max(bytes_of(problem, name) / ceilings["copy_bytes_per_s"], flops_of(problem, name) / rate)
        row["floor_ms"], row["share_of_floor"] = floor, floor / ours
    return row


def print_row(row):
    def shown(key, form):
        return form.format(row[key]) if row.get(key) is not None else "-"

    print(f"| {row['shape']} | {row['pass']} | {row['ms']:.3f} | {row['gb_per_s']:.0f} | {row['tflops']:.0f} "
          f"| {shown('floor_ms', '{:.3f}')} | {shown('share_of_floor', '{:.0%}')} | {shown('fla_ms', '{:.3f}')} "
          f"| {shown('ratio', '{:.2f}')} |", flush=True)


def time_shape(library, problem, passes, fla_there, ceilings, deadline):
    """Rows of one shape; the sides take turns, and the median of each counts."""
    ours = Ours(library, problem)
    rows = []
    try:
        sides = {"ours": ours}
        notes = {}
        for name in passes:  # warms up
            if name == "backward":
                ours.run("record")
            ours.run(name)
        ours.synchronize()
        if fla_there:
            try:
                fla = Fla(ours, problem)
                if "decode" not in passes:
                    ours.run("record")
                    ours.run("backward")
                    ours.synchronize()
                    notes["difference"] = fla.difference(ours)
                else:
                    fla.run("decode")
                sides["fla"] = fla
            except Exception as error:  # FLA refuses some shapes: ours is timed all the same
                notes["fla"] = f"{type(error).__name__}: {error}"
                print(f"FLA on {problem['name']}: {notes['fla']}", file=sys.stderr)
        for name in passes:
            if name == "backward":
                for side in sides.values():
                    side.run("record")
            times = {side: [] for side in sides}
            for _ in range(ROUNDS):
                for side, runner in sides.items():
                    times[side].append(runner.milliseconds(name))
                if time.monotonic() > deadline and len(times["ours"]) >= 5:
                    break
            median = {side: statistics.median(values) for side, values in times.items()}
            row = row_of(problem, name, median["ours"], median.get("fla"), ceilings, ours.plan)
            row.update(notes, rounds=len(times["ours"]), peak_bytes=ours.peak_bytes())
            print_row(row)
            rows.append(row)
    finally:
        ours.close()
    return rows


def time_versions(library, problem, ceilings, deadline):
    """Rows of v1's and v2's kernels alone, in turns on the same tensors. Where one does not run its row says why."""
    ours = Ours(library, problem)
    rows = []
    try:
        for half in ("forward", "backward"):
            passes, refused = [], {}
            for name in (half + " v1", half + " v2"):
                try:
                    ours.run(name)
                    ours.synchronize()
                    passes.append(name)
                except RuntimeError as error:
                    if REFUSAL not in str(error):
                        raise  # a kernel that fails is no refusal, and nothing after it can be trusted
                    refused[name] = str(error)
            times = {name: [] for name in passes}
            for _ in range(ROUNDS if passes else 0):
                for name in passes:
                    times[name].append(ours.milliseconds(name))
                if time.monotonic() > deadline and len(times[passes[0]]) >= 5:
                    break
            for name, values in times.items():
                row = row_of(problem, name, statistics.median(values), None, ceilings, name)
                row["rounds"] = len(values)
                print_row(row)
                rows.append(row)
            rows += [{"shape": problem["name"], "pass": name, "refused": why} for name, why in refused.items()]
    finally:
        ours.close()
    return rows


def fla_version():
    try:
        import fla
        import fla.ops.kda  # noqa: F401
        import torch
        import triton
        return f"FLA {fla.__version__}, torch {torch.__version__}, triton {triton.__version__}"
    except Exception as error:
        print(f"FLA is not timed: {type(error).__name__}: {error}", file=sys.stderr)
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", required=True)
    parser.add_argument("--ceilings", help="what ceilings printed")
    parser.add_argument("--json", required=True)
    parser.add_argument("--seconds", type=float, default=240, help="after so long, fewer rounds per row")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to see that it works")
    parser.add_argument("--device", default="cuda", help="the device of the problems")
    parser.add_argument("--versions", action="store_true",
                        help="the kernels of v1 and v2 alone, in a process of their own: v2 has not run on a GPU yet")
    arguments = parser.parse_args()
    ceilings = None
    if arguments.ceilings:
        with open(arguments.ceilings) as file:
            ceilings = json.load(file)
    library = Library(arguments.library)
    version = fla_version() if arguments.device == "cuda" and not arguments.versions else None
    work = [(problem, ["forward", "backward", "both"]) for problem in shapes(arguments.quick)]
    if not arguments.versions:
        work += [(problem, ["decode"]) for problem in decode_shapes(arguments.quick)]
    print("| shape | pass | ms | GB/s | TFLOP/s | floor, ms | share of the floor | FLA, ms | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    start = time.monotonic()
    rows, failed = [], False
    for i, (problem, passes) in enumerate(work):
        try:
            problem = dict(problem, device=arguments.device)
            deadline = start + arguments.seconds * (i + 1) / len(work)
            if arguments.versions:
                rows += time_versions(library, problem, ceilings, deadline)
            else:
                rows += time_shape(library, problem, passes, version is not None, ceilings, deadline)
        except Exception as error:
            failed = True
            print(f"| {problem['name']} | failed: {error} | | | | | | | |", flush=True)
            rows.append(dict(shape=problem["name"], error=str(error)))
        with open(arguments.json, "w") as file:  # after every shape: what hangs later takes no figures with it
            json.dump(dict(fla=version, rows=rows), file, indent=1)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
