"""Imports what was installed; where a system library is missing, names the Debian package."""

from __future__ import annotations

import importlib
import re
import sys

MODULES = (
    "numpy",
    "scipy",
    "cv2",
    "pybullet",
    "onnxruntime",
    "coal",
    "pinocchio",
    "ompl",
    "ruckig",
)

# Shared library, without the version behind .so -> package on Debian and Ubuntu.
PACKAGES = {
    "libEGL": "libegl1",
    "libGL": "libgl1",
    "libGLX": "libglx0",
    "libOpenGL": "libopengl0",
    "libSM": "libsm6",
    "libX11": "libx11-6",
    "libXext": "libxext6",
    "libXrender": "libxrender1",
    "libatomic": "libatomic1",
    "libbz2": "libbz2-1.0",
    "libexpat": "libexpat1",
    "libffi": "libffi8",
    "libgcc_s": "libgcc-s1",
    "libgfortran": "libgfortran5",
    "libglib-2.0": "libglib2.0-0",
    "libgomp": "libgomp1",
    "libgthread-2.0": "libglib2.0-0",
    "liblzma": "liblzma5",
    "libquadmath": "libquadmath0",
    "libstdc++": "libstdc++6",
    "libxcb": "libxcb1",
    "libz": "zlib1g",
}


def advice(module: str, error: Exception) -> str:
    """One line: what is wrong with ``module`` and what would mend it."""
    library = re.search(r"(lib[\w.+-]+?)\.so[\w.]*", str(error))
    if library is None:
        cause = " ".join(str(error).split())
        return f"cannot import {module}: {cause}; to install afresh: rm -rf .venv, then make run"
    name = library.group(1)
    package = PACKAGES.get(name)
    if package is None:
        return (
            f"{module} needs the system library {library.group(0)}; to find its package: "
            f"apt install apt-file && apt-file update && apt-file search {library.group(0)}"
        )
    return (
        f"{module} needs the system library {library.group(0)}; install the package {package}, "
        f"as in: apt install {package}"
    )


def main(modules: list[str]) -> int:
    for module in modules or MODULES:
        try:
            importlib.import_module(module)
        except Exception as error:  # a broken wheel can raise anything
            sys.stderr.write(f"steadyhand: {advice(module, error)}\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
