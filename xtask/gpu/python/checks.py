"""What a result must say to count as one.

checks.py doctor FILE   the GPU, CUDA's libraries and the energy counter work
checks.py run FILE      a run of a real GPU by its energy counter: every layer measured or below detection; prints
                        counts, closure and shares. Exit code 1 where it is not so
checks.py --self-test   tries both on made-up files
"""

import collections
import json
import sys

# What a careful run aims at; beyond it is said, and fails nothing.
TARGET = 0.02
CLOSURE = 0.03


def doctor(page):
    """Faults of `doctor --format json`, as texts."""
    faults = []
    cuda = [device for device in page.get("devices", []) if device.get("kind") == "cuda"]
    if not any(device.get("works") for device in cuda):
        reasons = "; ".join(str(device.get("reason")) for device in cuda) or "no entry for it"
        faults.append(f"the device cuda does not work: {reasons}")
    if not any(meter.get("id") == "nvml" and meter.get("status") == "measured" for meter in page.get("meters", [])):
        faults.append("the meter nvml does not work")
    return faults


def half_width(estimate):
    """Relative half width of an interval; none without a value."""
    if not estimate or not estimate.get("value"):
        return None
    return (estimate["high"] - estimate["low"]) / 2 / abs(estimate["value"])


def run(report):
    """Faults of a run file and lines for people."""
    faults, lines = [], []
    device = report["device"]
    if report["simulated"] or report["emulated"] or device["kind"] != "cuda":
        faults.append(f"not a run of a real GPU: device {device['kind']}, simulated {report['simulated']}, "
                      f"emulated {report['emulated']}")
    if report["primary_meter"] != "nvml":
        faults.append(f"measured by {report['primary_meter']}, expected the energy counter nvml")
    worked = [row for row in report["layers"] if row["signature"] is not None]
    status = collections.Counter(row["status"] for row in worked)
    for row in worked:
        if row["status"] not in ("measured", "below_detection"):
            faults.append(f"layer {row['name']}: {row['status']}: {row.get('reason')}")
    lines.append("layers: " + ", ".join(f"{count} {name}" for name, count in sorted(status.items())))
    widths = sorted(((half_width(row["energy_j"]) or 0.0, row["name"]) for row in worked
                     if row["status"] == "measured"), reverse=True)
    wide = [f"{name} {width:.1%}" for width, name in widths if width > TARGET]
    lines.append(f"intervals wider than {TARGET:.0%}: {len(wide)} of {len(widths)}" + (
        f", the widest: {', '.join(wide[:5])}" if wide else ""))
    if not report["closure"]:
        faults.append("no closure: the pass was not measured")
    for closure in report["closure"]:
        value = closure["residual_ratio"]
        if value is None:
            faults.append(f"closure of {closure['phase']}: no residual")
            continue
        text = f"closure of {closure['phase']}: residual {value:+.2%} of the pass"
        lines.append(text + ("" if abs(value) <= CLOSURE else f", beyond the aim of {CLOSURE:.0%}"))
    shares = [(row["share"], row["kind"]) for row in report["kinds"] if row.get("share") is not None]
    lines.append("shares: " + ", ".join(f"{kind} {share:.1%}" for share, kind in sorted(shares, reverse=True)))
    for warning in report["warnings"]:
        lines.append(f"warning {warning['code']}: {warning['text']}")
    return faults, lines


def self_test():
    works = {"devices": [{"kind": "cuda", "works": True}], "meters": [{"id": "nvml", "status": "measured"}]}
    assert doctor(works) == []
    assert len(doctor({"devices": [{"kind": "cuda", "works": False, "reason": "r"}], "meters": []})) == 2
    assert half_width({"value": 2.0, "low": 1.9, "high": 2.1}) - 0.05 < 1e-12
    row = {"name": "conv1", "signature": "s", "status": "measured", "energy_j": {"value": 1.0, "low": 0.9, "high": 1.1}}
    good = {
        "device": {"kind": "cuda"}, "simulated": False, "emulated": False, "primary_meter": "nvml", "layers": [row],
        "closure": [{"phase": "forward", "residual_ratio": 0.05}],
        "kinds": [{"kind": "conv", "share": 1.0}], "warnings": [],
    }
    faults, lines = run(good)
    assert faults == [], faults
    assert lines[1] == "intervals wider than 2%: 1 of 1, the widest: conv1 10.0%", lines
    assert lines[2] == "closure of forward: residual +5.00% of the pass, beyond the aim of 3%", lines
    bad = dict(good, emulated=True, layers=[dict(row, status="unavailable", reason="lost")], closure=[])
    assert len(run(bad)[0]) == 3, run(bad)[0]
    print("self-test: ok")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    what, file = sys.argv[1:]
    with open(file, encoding="utf-8") as text:
        found = json.load(text)
    faults, lines = (doctor(found), []) if what == "doctor" else run(found)
    print("\n".join(lines + [f"FAULT: {fault}" for fault in faults]))
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
