"""spoil.py FOLDER TENSOR FACTOR: multiplies a result of every case, as a wrong kernel would."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "interop"))
import deltatape_cases  # noqa: E402

folder, tensor, factor = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
for case in deltatape_cases.load(folder, keep_results=True):
    file = folder / f"{case.name}.results.safetensors"
    if file.exists():
        results, _ = deltatape_cases.read_safetensors(file)
    else:
        results = {path.stem: np.load(path) for path in (folder / case.name / "results").glob("*.npy")}
    if tensor in results:
        case.write(results | {tensor: (results[tensor] * factor).astype(results[tensor].dtype)})
