"""The energy of one window by our meter and by Python, which reads the same counter.

energy_window.py PROGRAM -- ARGS...   runs gpu_window with ARGS, polls NVML's energy counter beside it, and prints both
                                      as JSON; exit code 1 where they differ by more than 0.5 %
energy_window.py --self-test          tries the arithmetic on made-up readings

The program's window begins and ends where it saw the counter move. Python knows when it saw which count; the count at
an instant is the last one seen by then, and half a period later it is settled which one that is. So both must give the
same joules unless one of them reads, converts or times wrongly.
"""

import bisect
import json
import statistics
import subprocess
import sys
import threading
import time

BOUND = 0.005
# Between two readings of the counter.
POLL_S = 0.004


def median_period(changes):
    """Median seconds between two changes of the counter."""
    return statistics.median(later[0] - earlier[0] for earlier, later in zip(changes, changes[1:]))


def count_at(changes, instant):
    """The last count that was seen by an instant."""
    at = bisect.bisect_right([time_s for time_s, _ in changes], instant)
    if at == 0:
        raise ValueError(f"no reading by {instant}: Python began to read too late")
    return changes[at - 1][1]


def joules_between(changes, begin, end):
    """Joules between two instants right after the counter moved; its counts are millijoules."""
    if len(changes) < 3:
        raise ValueError(f"the counter moved {len(changes)} times, expected often")
    later = median_period(changes) / 2
    if changes[-1][0] < end:
        raise ValueError("Python stopped to read before the window ended")
    return (count_at(changes, end + later) - count_at(changes, begin + later)) / 1e3


class Poller(threading.Thread):
    """Notes when the counter shows a new count."""

    def __init__(self, handle, nvml):
        super().__init__(daemon=True)
        self.handle, self.nvml, self.changes, self.stopping = handle, nvml, [], False
        self.error = None

    def run(self):
        last = None
        try:
            while not self.stopping:
                count = self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)
                if count != last:
                    self.changes.append((time.time(), count))
                    last = count
                time.sleep(POLL_S)
        except Exception as error:  # whatever it is, the answer must say so
            self.error = error


def measure(command):
    import pynvml

    pynvml.nvmlInit()
    poller = Poller(pynvml.nvmlDeviceGetHandleByIndex(0), pynvml)
    poller.start()
    child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    # The window's last edge must be seen, and the next one.
    time.sleep(0.5)
    poller.stopping = True
    poller.join(10)
    if child.returncode:
        sys.exit(f"{command[0]} ended with exit code {child.returncode}")
    if poller.error:
        sys.exit(f"Python cannot read the counter: {poller.error}")
    ours = json.loads(child.stdout)
    uuid = pynvml.nvmlDeviceGetUUID(poller.handle)
    uuid = uuid if isinstance(uuid, str) else uuid.decode()
    if ours["uuid"] not in (None, uuid):
        sys.exit(f"the program ran on {ours['uuid']}, Python read {uuid}: set CUDA_VISIBLE_DEVICES=0")
    return ours, poller.changes


def verdict(ours, changes):
    joules = joules_between(changes, ours["begin_unix_s"], ours["end_unix_s"])
    relative = ours["joules"] / joules - 1
    return {
        "schema": "layerjoule.gpu-energy/1", "emulated": ours["emulated"], "ours": ours, "python_joules": joules, "relative_difference": relative,
        "bound": BOUND, "within": abs(relative) <= BOUND, "counter_period_s": median_period(changes),
    }


def self_test():
    # 300 W, a new count every 0.1 s, each seen 3 ms late.
    changes = [(100 + k / 10 + 0.003, 5_000_000 + 30_000 * k) for k in range(100)]
    assert abs(median_period(changes) - 0.1) < 1e-9
    # Our window: opened right after the 10th change, closed right after the 60th: 5 s.
    ours = {"emulated": False, "joules": 1500.0, "begin_unix_s": 101.001, "end_unix_s": 106.001}
    found = verdict(ours, changes)
    assert found["python_joules"] == 1500.0 and found["within"], found
    assert not verdict(dict(ours, joules=1508.0), changes)["within"]
    assert verdict(dict(ours, joules=1507.0), changes)["within"]
    for wrong in ((99.0, 106.0), (101.0, 111.0)):
        try:
            joules_between(changes, *wrong)
        except ValueError:
            continue
        raise AssertionError(f"{wrong} is not covered by the readings")
    print("self-test: ok")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if len(sys.argv) < 3 or sys.argv[2] != "--":
        sys.exit("usage: energy_window.py PROGRAM -- ARGS...")
    found = verdict(*measure([sys.argv[1], *sys.argv[3:]]))
    print(json.dumps(found, indent=1))
    if not found["within"]:
        print(f"the window has {found['ours']['joules']:.2f} J by our meter and {found['python_joules']:.2f} J by "
              f"Python: {found['relative_difference']:+.3%}, bound {BOUND:.1%}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
