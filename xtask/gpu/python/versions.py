"""Versions of what Python brings on this machine, as JSON; with --cuda-path only the folder of NVIDIA's wheels."""

import glob
import importlib.metadata
import importlib.util
import json
import platform
import sys

PACKAGES = ("torch", "numpy", "nvidia-ml-py", "nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-cuda-nvrtc",
            "nvidia-cublas-cu12", "nvidia-cudnn-cu12", "nvidia-cuda-nvrtc-cu12")


def cuda_path():
    """The folder `nvidia` of site-packages if it has libraries, or nothing."""
    spec = importlib.util.find_spec("nvidia")
    places = list(spec.submodule_search_locations or []) if spec else []
    return next((place for place in places if glob.glob(f"{place}/*/lib/lib*.so*")), "")


def versions():
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


if __name__ == "__main__":
    print(cuda_path() if sys.argv[1:] == ["--cuda-path"] else json.dumps(versions(), indent=1, sort_keys=True))
