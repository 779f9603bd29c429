"""Reads the cases that `deltatape cases make` wrote and writes results beside them. Needs numpy only.

    for case in deltatape_cases.load("cases"):
        o, ht = my_kernel(**case.inputs, scale=case.config["scale"])
        case.write({"o": o, "ht": ht})

then `deltatape cases check cases` judges. What is not written was not run: a case that a kernel does not support is
left out, and a result that it does not compute too, with `--results o,ht` for what it does compute.
"""

import json
import struct
from pathlib import Path

import numpy as np

# The numbers of .safetensors files; numpy has no bfloat16.
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "BOOL": "|b1"}


def read_safetensors(path):
    """Tensors by name and the metadata of a .safetensors file. bfloat16 becomes float32 of the same values."""
    data = Path(path).read_bytes()
    (header_size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + header_size])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + header_size + offset for offset in entry["data_offsets"])
        array = np.frombuffer(data[begin:end], _TYPES[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = array
    return tensors, metadata


def write_safetensors(path, tensors):
    """Writes numpy arrays as a .safetensors file."""
    names = {np.dtype(kind): name for name, kind in _TYPES.items() if name != "BF16"}
    tensors = {name: np.ascontiguousarray(tensors[name]).reshape(np.shape(tensors[name])) for name in sorted(tensors)}
    header, position = {}, 0
    for name, array in tensors.items():
        end = position + array.nbytes
        header[name] = {"dtype": names[array.dtype], "shape": array.shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(x.tobytes() for x in tensors.values()))


class Case:
    """One case.

    name        case_0000
    config      sizes (B T H HV K V N) and options; `dtype` is what to compute in: f64, f32, bf16 or f16
    inputs      q k v g beta, and A_log dt_bias h0 cu_seqlens segment_ids where the case has them
    upstream    the gradients of the loss with respect to o and ht; one that is not there counts as zero. No entry at
                all: only o and ht are asked for
    results     the names of the results that the case asks for, such as o ht dq dk dv dg dbeta dA_log ddt_bias dh0
    """

    def __init__(self, folder, entry, is_npy):
        self.name, self.results, self._folder, self._is_npy = entry["name"], entry["results"], folder, is_npy
        if is_npy:
            self.config = json.loads((folder / self.name / "config.json").read_text())
            tensors = {file.stem: np.load(file) for file in (folder / self.name).glob("*.npy")}
        else:
            tensors, metadata = read_safetensors(folder / f"{self.name}.safetensors")
            self.config = json.loads(metadata["config"])
        names = ["q", "k", "v", "g", "beta", "A_log", "dt_bias", "h0", "cu_seqlens", "segment_ids"]
        self.inputs = {name: tensors[name] for name in names if name in tensors}
        self.upstream = {name: tensors["d" + name] for name in ("o", "ht") if "d" + name in tensors}

    def sequences(self):
        """Tokens that share a state, as (row, begin, end, state it starts from, state it ends in); None: no state.

        Rows are whole unless the case is packed. With cu_seqlens every sequence has a state of its own. With
        segment_ids a segment starts wherever ids differ: the initial state is that of a row's first segment, the final
        state that of its last one.
        """
        B, T = self.config["B"], self.config["T"]
        if "cu_seqlens" in self.inputs:
            borders = self.inputs["cu_seqlens"].tolist()
            return [(0, begin, end, n, n) for n, (begin, end) in enumerate(zip(borders, borders[1:]))]
        if "segment_ids" not in self.inputs or T == 0:
            return [(row, 0, T, row, row) for row in range(B)]
        found = []
        for row, ids in enumerate(self.inputs["segment_ids"]):
            borders = [0, *(np.flatnonzero(np.diff(ids)) + 1).tolist(), T]
            for begin, end in zip(borders, borders[1:]):
                found.append((row, begin, end, row if begin == 0 else None, row if end == T else None))
        return found

    def remove_results(self):
        """Removes what an earlier run wrote, so that two runs do not mix."""
        self._results_file().unlink(missing_ok=True)
        for file in (self._folder / self.name / "results").glob("*.npy"):
            file.unlink()

    def _results_file(self):
        return self._folder / f"{self.name}.results.safetensors"

    def write(self, results):
        """Writes results by name, as float arrays of the shape of the answers, in the format of the case.

        None is left out. A result that the case does not have (compare `results`) is refused when it is checked.
        """
        arrays = {name: np.asarray(array) for name, array in results.items() if array is not None}
        if self._is_npy:
            folder = self._folder / self.name / "results"
            folder.mkdir(exist_ok=True)
            for name, array in arrays.items():
                np.save(folder / f"{name}.npy", array)
        else:
            write_safetensors(self._results_file(), arrays)


def load(folder, keep_results=False):
    """Every case of a folder, one after another. Results of an earlier run are removed."""
    folder = Path(folder)
    index = json.loads((folder / "cases.json").read_text())
    if index["version"] != 1:
        raise ValueError(f"{folder}/cases.json has version {index['version']}, expected 1")
    for entry in index["cases"]:
        case = Case(folder, entry, index["format"] == "npy")
        if not keep_results:
            case.remove_results()
        yield case
