#!/usr/bin/env python3
"""What `./dev gpu` runs on a machine with a GPU: builds, tests, measures, and prints one table last.

Every step goes on when one before it failed. Logs and figures go to --out; the table is put into docs/gpu-results.md.
"""

import argparse
import datetime
import glob
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "gpu"
RESULTS = ROOT / "docs" / "gpu-results.md"
MARK = "<!-- runs, newest first: `./dev gpu` writes below this line -->"
LIMIT_S = 570  # of the whole, so that a lease of ten minutes is enough

# Milliseconds that the design predicts on an H200 at S0: for v1 (docs/gpu-results.md says from what), and for v2's
# kernels, which no call takes by itself yet (docs/cuda-kda-v2.md).
PREDICTED_MS = {("S0: B1 T8192 H64", "forward"): 0.9, ("S0: B1 T8192 H64", "backward"): 2.6,
                ("S0: B1 T8192 H64", "forward v2"): 0.7, ("S0: B1 T8192 H64", "backward v2"): 2.15}
# The aims as ratios to FLA in the same run.
AIMS = {("S0: B1 T8192 H64", "forward"): 1.8, ("S0: B1 T8192 H64", "backward"): 1.7}
LEAST_RATIO = 0.9


class Run:
    """One run: where its logs go, what is left of its time, and the rows of its table."""

    def __init__(self, out, jobs):
        self.out, self.jobs = out, jobs
        self.start = time.monotonic()
        self.rows = []
        self.failures = 0
        self.environment = dict(os.environ)

    def left(self):
        return LIMIT_S - (time.monotonic() - self.start)

    def row(self, step, what, result, verdict):
        """`verdict` is ok, FAILED, missed, or a reason why there is none."""
        self.failures += verdict == "FAILED"
        self.rows.append((step, what, result, verdict))
        print(f"   {step}: {what}: {result}: {verdict}", flush=True)

    def command(self, name, *command, limit):
        """Runs a command, its output to NAME.log. Gives its exit code (None: out of time) and its output."""
        limit = min(limit, self.left())
        words = [str(word) for word in command]
        print(f"== {name}: {' '.join(words)}", flush=True)
        if limit < 5:
            return None, "no time is left"
        log = self.out / f"{name}.log"
        began = time.monotonic()
        with open(log, "w") as file:
            try:
                # A session of its own: what is out of time is ended with all that it started.
                process = subprocess.Popen(words, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=file,
                                           stderr=subprocess.STDOUT, start_new_session=True)
                code = process.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = None
            except OSError as error:
                file.write(str(error))
                code = 127
        text = log.read_text(errors="replace")
        if code != 0:
            print(text[-3000:], flush=True)
        print(f"   {time.monotonic() - began:.0f} s, {self.left():.0f} s left", flush=True)
        return code, text


def words_of(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout.strip()
    except OSError:
        return ""


def architecture():
    """What to compile for: the first GPU's capability, with the features of its family where there are some."""
    capability = words_of(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]).splitlines()[0]
    number = capability.replace(".", "")
    return number + "a" if int(number) >= 90 else number


def build(run):
    code, _ = run.command("configure", "cmake", "--preset", "gpu", f"-DDELTATAPE_CUDA_ARCHITECTURES={architecture()}",
                          limit=60)
    if code == 0:
        code, _ = run.command("build", "cmake", "--build", BUILD, "--parallel", run.jobs, limit=330)
    run.row("build", "library, tests, benchmarks", f"{LIMIT_S - run.left():.0f} s", "ok" if code == 0 else "FAILED")
    return code == 0


def tests(run):
    """Everything labelled gpu; the same cases are skipped where there is no device. Those of v2 by themselves: no GPU has
    run it yet, and one case that hangs would take the results of all others with it."""
    for what, selection, limit in (("ctest -L gpu, without v2", ("-E", "kda v2"), 150),
                                   ("ctest -L gpu, v2", ("-R", "kda v2"), 60)):
        code, text = run.command(f"tests-{selection[0][1]}-v2", "ctest", "--test-dir", BUILD, "-L", "^gpu$", *selection,
                                 "--parallel", "4", "--no-tests=error", "--output-on-failure", limit=limit)
        summary = [line.strip() for line in text.splitlines() if "tests passed" in line]
        skipped = text.count("***Skipped")
        run.row("tests", what, f"{summary[-1] if summary else 'no summary'}, {skipped} skipped",
                "ok" if code == 0 and skipped == 0 else "FAILED")


def gold(run, folder):
    """Stored cases with float64 answers, by every implementation that the device has."""
    cases = sorted(str(path.parent) for path in folder.glob("op*/config.json"))
    if not cases:
        run.row("gold", str(folder.name), "no cases here", "not run")
        return
    for dtype in ("f64", "f32", "bf16"):
        code, text = run.command(f"gold-{dtype}", BUILD / "deltatape", "kda", *cases, "--device", "cuda", "--dtype",
                                 dtype, "--check", limit=60)
        lines = [line for line in text.splitlines() if line.strip()]
        run.row("gold", f"{len(cases)} cases, {dtype}", lines[-1] if lines else "-", "ok" if code == 0 else "FAILED")


def errors(run):
    """v1 against float64 on the gate sets, within 1.5 of the table of docs/gpu-results.md."""
    code, text = run.command("errors", BUILD / "benchmarks" / "gpu" / "gpu_kda_errors", "--json", run.out / "errors.json",
                             limit=60)
    lines = [line for line in text.splitlines() if line.strip()]
    run.row("errors", "six gate sets and two gates against float64", lines[-1] if lines else "-", "ok" if code == 0 else "FAILED")


def sanitizer(run):
    """compute-sanitizer on tiny shapes. Some machines refuse it: that is no failure of ours."""
    tool = next(iter(sorted(glob.glob("/usr/local/cuda*/bin/compute-sanitizer"))), "compute-sanitizer")
    programs = {"KDA": [BUILD / "benchmarks" / "gpu" / "gpu_kda_errors", "--tiny"],
                "indexing": [BUILD / "tests" / "deltatape_tests", "--test-case=*cuda kernels: indexing*"]}
    for check, what in (("memcheck", "KDA"), ("racecheck", "KDA"), ("synccheck", "KDA"), ("memcheck", "indexing")):
        code, text = run.command(f"sanitizer-{check}-{what}", tool, "--tool", check, "--error-exitcode", "9",
                                 *programs[what], limit=30)
        if code is None:
            run.row("sanitizer", f"{check}, {what}", "not finished in its time", "not run")
        elif code == 127 or "not supported" in text.lower():
            run.row("sanitizer", f"{check}, {what}", "the tool does not run here", "not run")
        else:
            last = [line for line in text.splitlines() if "ERROR SUMMARY" in line or "RACECHECK SUMMARY" in line]
            run.row("sanitizer", f"{check}, {what}", last[-1].strip("= ") if last else "-",
                    "ok" if code == 0 else "FAILED")


def ceilings(run):
    code, text = run.command("ceilings", BUILD / "benchmarks" / "gpu" / "gpu_ceilings", limit=30)
    if code != 0:
        run.row("ceilings", "copy and products", "-", "FAILED")
        return None
    figures = json.loads(text.strip().splitlines()[-1])
    (run.out / "ceilings.json").write_text(json.dumps(figures))
    run.row("ceilings", "copy", f"{figures['copy_bytes_per_s'] / 1e12:.2f} TB/s", "ok")
    for key, what in (("bf16_product_flops", "bf16 product by cuBLAS"), ("mma_sync_flops", "mma.sync"),
                      ("wgmma_flops", "wgmma")):
        if figures[key]:
            run.row("ceilings", what, f"{figures[key] / 1e12:.0f} TFLOP/s", "ok")
    return figures


def verdict_of(row):
    if row["pass"].endswith((" v1", " v2")):
        return "kernels alone"
    if not row["ratio"]:
        return "FLA not timed"
    return "ok" if row["ratio"] >= AIMS.get((row["shape"], row["pass"]), LEAST_RATIO) else "missed"


def time_rows(run, measured):
    for row in measured["rows"]:
        if "error" in row:
            run.row("times", row["shape"], row["error"], "FAILED")
            continue
        key = (row["shape"], row["pass"])
        if "refused" in row:
            run.row("times", f"{row['shape']}, {row['pass']}", row["refused"], "not run")
            continue
        result = f"{row['ms']:.3f} ms"
        if key in PREDICTED_MS:
            result += f" (predicted {PREDICTED_MS[key]})"
        if row.get("share_of_floor"):
            result += f", {row['share_of_floor']:.0%} of the floor"
        if row["ratio"]:
            result += f", {row['ratio']:.2f}x FLA"
        run.row("times", f"{row['shape']}, {row['pass']}", result, verdict_of(row))


def times(run, figures, quick):
    """Ours beside FLA; then v1's and v2's kernels alone, in a process that takes nothing with it if v2 hangs."""
    tables = []
    for name, options, kept in (("times", [], 100), ("versions", ["--versions"], 15)):
        file = run.out / f"{name}.json"
        file.unlink(missing_ok=True)
        limit = max(20, run.left() - kept)
        command = [sys.executable, ROOT / "benchmarks" / "gpu" / "kda_times.py", "--library",
                   BUILD / "benchmarks" / "gpu" / "libdeltatape_kda_gpu.so", "--json", file, "--seconds",
                   max(15, int(limit - 40)), *options]
        if figures:
            command += ["--ceilings", run.out / "ceilings.json"]
        if quick:
            command.append("--quick")
        code, text = run.command(name, *command, limit=limit)
        if code != 0:
            run.row("times", name, "not finished in its time" if code is None else f"exit code {code}", "FAILED")
        if not file.exists():
            run.row("times", name, "no figures", "FAILED")
            continue
        measured = json.loads(file.read_text())
        time_rows(run, measured)
        if name == "times":
            tables += [f"Peer: {measured['fla'] or 'none'}.", ""]
        tables += [line for line in text.splitlines() if line.startswith("|")] + [""]
    return "\n".join(tables)


def losses_of(run, task, name, *options):
    """The losses of a short training run; None where it failed."""
    folder = run.out / f"train-{task}-{name}"
    code, _ = run.command(f"train-{task}-{name}", BUILD / "deltatape", "train", "--task", task, "--steps", "40",
                          "--batch", "4", "--seq-len", "64", "--seed", "3", "--out", folder, *options, limit=60)
    if code != 0:
        return None
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def training(run):
    """The example models on the CPU, on the GPU and as a recorded graph: the curves of the devices must agree, and a
    graph must not change a bit."""
    for task in ("palindrome", "mqar"):
        cpu = losses_of(run, task, "cpu", "--device", "cpu")
        gpu = losses_of(run, task, "gpu", "--device", "cuda")
        graph = losses_of(run, task, "graph", "--device", "cuda", "--cuda-graph")
        if not cpu or not gpu or len(cpu) != len(gpu):
            run.row("training", f"{task}, CPU and GPU", "did not run", "FAILED")
        else:
            apart = max(abs(a - b) / abs(a) for a, b in zip(cpu, gpu))
            run.row("training", f"{task}: {len(cpu)} losses, CPU and GPU", f"at most {apart:.1e} apart",
                    "ok" if apart < 1e-3 else "FAILED")
        run.row("training", f"{task}: as a CUDA graph", "the same bits" if graph and graph == gpu else "other losses",
                "ok" if graph and graph == gpu else "FAILED")


def table_of(run):
    lines = ["| step | what | result | verdict |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {step} | {what} | {result} | {verdict} |" for step, what, result, verdict in run.rows])


def heading(figures):
    commit = words_of(["git", "rev-parse", "--short", "HEAD"]) or "not in a repository"
    if words_of(["git", "status", "--porcelain"]):
        commit += " with changes"
    driver = words_of(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]).splitlines()
    nvcc = words_of(["nvcc", "--version"]).splitlines()
    name = figures["gpu"] if figures else (driver[0] if driver else "GPU")
    return (f"## {datetime.date.today().isoformat()}, {name}\n\nCommit {commit}. Driver: "
            f"{driver[0] if driver else 'unknown'}. {nvcc[-2] if len(nvcc) > 1 else 'nvcc unknown'}.\n")


def write_results(text):
    """The newest run first, below what the page says by itself."""
    page = RESULTS.read_text()
    before, mark, after = page.partition(MARK)
    if not mark:
        raise SystemExit(f"{RESULTS} has no line '{MARK}'")
    RESULTS.write_text(f"{before}{MARK}\n\n{text.strip()}\n{after}")


def use_wheels(run, folder):
    site = ROOT / "build" / "wheels"
    wheels = sorted(glob.glob(f"{folder}/*.whl"))
    code, _ = run.command("wheels", sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps",
                          "--upgrade", "--target", site, *wheels, limit=60)
    if code == 0:
        run.environment["PYTHONPATH"] = f"{site}:{run.environment.get('PYTHONPATH', '')}"
    run.row("wheels", f"{len(wheels)} Python wheels", folder, "ok" if code == 0 else "FAILED")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--jobs", default=str(os.cpu_count()))
    parser.add_argument("--wheels", help="a folder of Python wheels to install for this run")
    parser.add_argument("--gold", type=pathlib.Path, default=ROOT / "tests" / "data",
                        help="a folder of stored operator cases, op*/config.json")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to see that it works")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    run = Run(arguments.out.resolve(), arguments.jobs)
    if arguments.wheels:
        use_wheels(run, arguments.wheels)
    figures, peers = None, ""
    if build(run):
        figures = ceilings(run)
        tests(run)
        errors(run)
        gold(run, arguments.gold)
        training(run)
        sanitizer(run)
        peers = times(run, figures, arguments.quick)
    text = f"{heading(figures)}\n{table_of(run)}\n\n{peers}"
    (run.out / "table.md").write_text(text)
    write_results(text)
    print(f"\n{text}\n\n{len(run.rows)} rows, {run.failures} failed", flush=True)
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
