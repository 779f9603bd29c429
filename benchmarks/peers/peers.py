"""Deltatape beside another implementation of KDA on the CPU: installs the peer from a package registry into a scratch
folder, checks that both compute the same, times both in turns and prints ratios. README.md here says more.

    python3 benchmarks/peers/peers.py ggml|torch|transformers|fla|model|all [--quick]

Needs a built release tree (`./dev peers` builds it) and nothing but Python's standard library.

Exit code: 0 done; 1 results differ or a program failed; 2 wrong arguments; 3 the peer cannot be installed here.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# The versions that were looked at; what is measured should be what is named. Their dependencies are pip's choice.
TORCH = ["torch==2.15.0", "numpy"]
PACKAGES = {
    "torch": TORCH,
    "model": TORCH,
    "transformers": TORCH + ["transformers==5.23.0"],
    "fla": TORCH + ["fla-core==0.6.0"],
}
GGML_SDIST = "llama-cpp-python==0.3.36"  # carries the sources of llama.cpp, and those ggml's
NAMES = ["ggml", "torch", "transformers", "fla", "model"]

DONE, FAILED, NOT_INSTALLABLE = 0, 1, 3


class NotInstallable(Exception):
    """The peer cannot be had here; the message says why, in one line."""


def run(command, log=None):
    """Runs a command with its output in the file `log`. Raises CalledProcessError."""
    command = [str(part) for part in command]
    if log is None:
        subprocess.run(command, check=True)
        return
    with open(log, "w") as file:
        subprocess.run(command, check=True, stdout=file, stderr=subprocess.STDOUT)


def last_error(log):
    """The line of a log that says most about why something failed."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "cmake error"))]
    return (errors or lines or ["no output"])[-1]


def install(what, command, log):
    """A step of an installation. Raises NotInstallable."""
    try:
        run(command, log)
    except (OSError, subprocess.CalledProcessError):
        raise NotInstallable(f"{what} failed: {last_error(log)} (log: {log})") from None


def environment(scratch):
    """The Python of the scratch environment, made when it is not there."""
    python = scratch / "venv" / "bin" / "python"
    if not (scratch / "venv" / "complete").exists():
        shutil.rmtree(scratch / "venv", ignore_errors=True)
        install("python3 -m venv", [sys.executable, "-m", "venv", scratch / "venv"], scratch / "venv.log")
        (scratch / "venv" / "complete").touch()
    return python


def has(python, packages):
    """Whether `python` has all packages, in the given versions."""
    script = ("import importlib.metadata as m, sys\n"
              "for p in sys.argv[1:]:\n"
              "    name, _, version = p.partition('==')\n"
              "    assert m.version(name).split('+')[0] == version or not version\n")
    return subprocess.run([python, "-c", script, *packages], stderr=subprocess.DEVNULL).returncode == 0


def python_with(packages, scratch, given):
    """A Python that has `packages`: the one that was given, as it is, or the scratch environment's."""
    if given is not None:
        return given
    python = environment(scratch)
    if not has(python, packages):
        print(f"installing {' '.join(packages)} into {scratch / 'venv'}", flush=True)
        install("pip install", [python, "-m", "pip", "install", "--disable-pip-version-check", *packages],
                scratch / "pip.log")
    return python


def ggml_sources(scratch):
    """The folder with ggml's sources, taken from the source package."""
    source = scratch / "ggml" / "source" / GGML_SDIST.replace("==", "-")
    if not (source / "complete").exists():
        python, download = environment(scratch), scratch / "ggml" / "download"
        shutil.rmtree(download, ignore_errors=True)
        download.mkdir(parents=True)
        name = GGML_SDIST.partition("==")[0]
        print(f"downloading the source package {GGML_SDIST}", flush=True)
        install("pip download", [python, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps",
                                 "--no-binary", name, "--dest", download, GGML_SDIST], scratch / "pip.log")
        shutil.rmtree(source, ignore_errors=True)
        for archive in download.glob("*.tar.gz"):
            with tarfile.open(archive) as file:
                for member in file.getmembers():
                    _, found, path = member.name.partition("/vendor/llama.cpp/ggml/")
                    path = path.lstrip("/")  # an absolute path would lead out of `source`
                    if found and member.isfile() and ".." not in path:
                        (source / path).parent.mkdir(parents=True, exist_ok=True)
                        (source / path).write_bytes(file.extractfile(member).read())
        if not (source / "CMakeLists.txt").exists():
            raise NotInstallable(f"{GGML_SDIST} has no vendor/llama.cpp/ggml")
        (source / "complete").touch()
    return source


def compare_ggml(options):
    source = ggml_sources(options.scratch)
    ours, build = options.scratch / "deltatape", options.scratch / "ggml" / "build"
    run(["cmake", "--install", options.build, "--prefix", ours], options.scratch / "install.log")
    build.mkdir(parents=True, exist_ok=True)
    install("configuring ggml", ["cmake", "-S", HERE / "ggml", "-B", build, f"-DGGML_SOURCE={source}",
                                 f"-DCMAKE_PREFIX_PATH={ours}"], options.scratch / "cmake.log")
    jobs = ["--parallel", os.environ["OMP_NUM_THREADS"]]
    install("building ggml", ["cmake", "--build", build, "--target", "ggml", *jobs], options.scratch / "build.log")
    run(["cmake", "--build", build, "--target", "peer_ggml", *jobs], options.scratch / "build.log")
    run([build / "peer_ggml", *options.quick])


def compare_kda(name, options):
    python = python_with(PACKAGES[name], options.scratch, options.python)
    run([python, HERE / "compare_kda.py", name, "--worker", worker("peer_kda_worker", options), *options.quick])


def compare_model(options):
    python = python_with(PACKAGES["model"], options.scratch, options.python)
    run([python, HERE / "compare_model.py", "--worker", worker("peer_model_worker", options), *options.quick])


def worker(name, options):
    return options.build / "benchmarks" / "peers" / name


def compare(name, options):
    """Runs one comparison. Returns the exit code."""
    try:
        if name == "ggml":
            compare_ggml(options)
        elif name == "model":
            compare_model(options)
        else:
            compare_kda(name, options)
    except NotInstallable as reason:
        print(f"peers: {name} cannot be installed here: {reason}", file=sys.stderr)
        return NOT_INSTALLABLE
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"peers: {name} failed: {error}", file=sys.stderr)
        return FAILED
    return DONE


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES + ["all"])
    parser.add_argument("--quick", action="store_const", const=["--quick"], default=[],
                        help="small shapes, one round: to see that it works")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "release", help="our build tree")
    parser.add_argument("--scratch", type=Path, default=ROOT / "build" / "peers", help="where peers are installed")
    parser.add_argument("--python", type=Path, help="a Python that has the peer, instead of installing it")
    options = parser.parse_args()
    options.build, options.scratch = options.build.absolute(), options.scratch.absolute()
    return options


def main():
    options = parse()
    options.scratch.mkdir(parents=True, exist_ok=True)
    # Both sides read it, so that both use as many threads.
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    codes = []
    for name in NAMES if options.name == "all" else [options.name]:
        if options.name == "all":
            print(f"\n== {name}", flush=True)
        codes.append(compare(name, options))
    return FAILED if FAILED in codes else max(codes)


if __name__ == "__main__":
    sys.exit(main())
