"""Writes numpy_files.json: files as NumPy writes them, for the tests of the NPY and NPZ readers.

Run: python tests/data/golden/numpy_files.py > tests/data/golden/numpy_files.json   (needs numpy)
"""

import base64
import io
import json

import numpy as np


def npy(array, version=None):
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=version, allow_pickle=True)
    return base64.b64encode(out.getvalue()).decode()


def npz(save):
    out = io.BytesIO()
    save(out, features=np.arange(12, dtype=np.float32).reshape(4, 3), targets=np.array([0, 2, 1, 2]))
    return base64.b64encode(out.getvalue()).decode()


grid = np.array([[1, 2, 3], [-4, 5, 60]])
cube = np.arange(24).reshape(2, 3, 4)
files = {f"{order}{kind}": npy(abs(grid).astype(order + kind) if kind[0] == "u" else grid.astype(order + kind))
         for kind in ["u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"] for order in "<>"}
files |= {"|u1": npy(abs(grid).astype("u1")), "|i1": npy(grid.astype("i1")), "|b1": npy(grid > 2)}
files |= {
    "fortran grid": npy(np.asfortranarray(grid.astype("<f8"))),
    "fortran cube": npy(np.asfortranarray(cube.astype("<i4"))),
    "version 2": npy(grid.astype("<f8"), (2, 0)),
    "version 3": npy(grid.astype("<f8"), (3, 0)),
    "vector": npy(np.array([1.5, -2.5])),
    "number": npy(np.array(7.25)),
    "empty": npy(np.zeros((0, 3))),
    "half": npy(np.zeros(2, dtype="<f2")),
    "complex": npy(np.zeros(2, dtype="<c8")),
    "text": npy(np.array(["a", "b"])),
    "objects": npy(np.array([{"a": 1}], dtype=object)),
    "structured": npy(np.zeros(2, dtype=[("a", "<i4"), ("b", "<f8")])),
    "npz stored": npz(np.savez),
    "npz deflated": npz(np.savez_compressed),
}
print(json.dumps(files, indent=0))
