"""A stand-in for pynvml, as far as xtask/gpu/python/energy_window.py calls it: a board that draws 300 W, whose counter
moves at every half second of the system's clock: slow enough for a machine that holds readers up."""

import math
import time


def nvmlInit():
    pass


def nvmlDeviceGetHandleByIndex(index):
    return index


def nvmlDeviceGetUUID(handle):
    return "GPU-stand-in"


def nvmlDeviceGetTotalEnergyConsumption(handle):
    return math.floor(time.time() * 2) % 10**9 * 150_000
