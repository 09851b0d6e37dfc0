"""Makes the virtual environment of the peers: `python3 bench/peers/install.py [--with-torch [cpu|cuda]] [--venv DIR]`.

Run it again at any time: what is there already is kept.

- Without --with-torch: JAX for CPU and NumPy (about 0.5 GB on disk).
- --with-torch: PyTorch for CPU work. The package index has only the CUDA build for Linux on x86-64. Its libraries are linked
  against some 2 GB of CUDA wheels, of which a CPU run calls nothing but the CUDA runtime's "is there a device". So torch
  (0.54 GB to fetch) goes in without dependencies, with the three small CUDA wheels that have to be real because loading
  torch runs them (runtime, cupti, cufile: 17 MB), and `write_stubs` makes the rest: empty-handed libraries of the
  right names whose functions return 1, "failed". They lie in torch/lib, the last place where the loader looks, so real
  libraries win when they are installed later. Tried and not enough: empty libraries (Python loads with immediate binding, so
  every function must exist) and symbols without versions (the loader stops with a failed assertion). Needs `cc` and `readelf`,
  which a machine that links Rust programs has.
- --with-torch cuda: PyTorch with all its dependencies, to compare with a GPU (about 3 GB to fetch).
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
TORCH = "2.15.0"

# Library name -> prefix of its functions, for those that torch links without symbol versions (None: versions tell).
STUBS = {
    "libcublas.so.13": None,
    "libcublasLt.so.13": None,
    "libcudnn.so.9": None,
    "libcufft.so.12": None,
    "libcusolver.so.12": None,
    "libcusparse.so.12": None,
    "libcusparseLt.so.0": "cusparseLt",
    "libnccl.so.2": "nccl",
    "libnvrtc.so.13": None,
    "libnvshmem_host.so.3": "nvshmem",
}


def run(*command: str | Path) -> str:
    """Runs a command; on failure ends the program with what it said."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    except FileNotFoundError:
        sys.exit(f"Cannot install the peers: expected the program {command[0]} but found none")
    if done.returncode != 0:
        sys.exit(f"Cannot install the peers: {' '.join(map(str, command[:6]))} ended with code {done.returncode}\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def write_stubs(library_folder: Path) -> None:
    """Writes a stand-in for each CUDA library that is not installed, with every function that torch's libraries look for."""
    wanted: dict[str, dict[str, set[str]]] = {name: {} for name in STUBS}
    for library in sorted(library_folder.glob("lib*torch*.so")):
        # `000000: Version: 1 File: libcublas.so.13 Cnt: 1` and below it `0x0010: Name: libcublas.so.13 Flags: none Version: 34`
        owner_of: dict[str, str] = {}
        owner = ""
        for line in run("readelf", "-V", "-W", library).splitlines():
            if found := re.search(r"File: (\S+)", line):
                owner = found[1]
            elif found := re.search(r"Name: (\S+) .*Version: (\d+)", line):
                owner_of[found[2]] = owner
        for line in run("readelf", "--dyn-syms", "-W", library).splitlines():
            # `4: 0000000000000000 0 FUNC GLOBAL DEFAULT UND cublasCreate_v2@libcublas.so.13 (34)`
            found = re.search(r" UND (\w+)(?:@(\S+) \((\d+)\))?$", line.rstrip())
            if not found:
                continue
            symbol, version, number = found.groups()
            for name, prefix in STUBS.items():
                if owner_of.get(number or "") == name or (prefix and version is None and symbol.startswith(prefix)):
                    wanted[name].setdefault(version or "", set()).add(symbol)
    for name, versions in wanted.items():
        with tempfile.TemporaryDirectory() as folder:
            source, script = Path(folder, "stub.c"), Path(folder, "stub.map")
            symbols = sorted(set().union(*versions.values()))
            source.write_text("".join(f"int {symbol}(void) {{ return 1; }}\n" for symbol in symbols))
            named = [version for version in versions if version]
            # A reference without a version is served by a definition with one, so a single named version can take all.
            if len(named) > 1:
                sys.exit(f"Cannot install the peers: expected one symbol version of {name} but found {', '.join(named)}; install with --with-torch cuda")
            script.write_text(f"{named[0] if named else ''} {{ global: *; }};\n")
            run("cc", "-shared", "-fPIC", "-nostdlib", source, f"-Wl,-soname,{name}", f"-Wl,--version-script={script}", "-o", library_folder / name)


def install_torch(python: Path, kind: str) -> None:
    check = f"import torch; assert torch.__version__.split('+')[0] == '{TORCH}'; (torch.ones(2, 2) @ torch.ones(2, 2)).sum().item()"
    if kind == "cuda":
        run(python, "-m", "pip", "install", "--quiet", f"torch=={TORCH}")
    elif subprocess.run([str(python), "-c", check], capture_output=True).returncode != 0:
        run(python, "-m", "pip", "install", "--quiet", "--no-deps", f"torch=={TORCH}")
        run(python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements-torch.txt")
        if platform.system() == "Linux" and platform.machine() == "x86_64":
            found = run(python, "-c", "import importlib.util as i; print(i.find_spec('torch').submodule_search_locations[0])")
            write_stubs(Path(found.strip()) / "lib")
    run(python, "-c", check)


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the virtual environment of the peers.")
    parser.add_argument("--venv", type=Path, default=HERE / ".venv", help="its folder (default: bench/peers/.venv)")
    parser.add_argument("--with-torch", nargs="?", const="cpu", choices=["cpu", "cuda"], help="PyTorch too (default kind: cpu)")
    options = parser.parse_args()
    if sys.version_info < (3, 11):
        sys.exit(f"Cannot install the peers: expected Python 3.11 or newer but found {platform.python_version()}")
    python = options.venv / ("Scripts/python.exe" if platform.system() == "Windows" else "bin/python")
    if not python.exists():
        venv.create(options.venv, with_pip=True)
    run(python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt")
    run(python, "-c", "import jax, numpy")
    if options.with_torch:
        install_torch(python, options.with_torch)
    print(f"The peers are ready in {options.venv}")


if __name__ == "__main__":
    main()
