#!/usr/bin/env python3
"""Holds results of the benchmarks of parts against baseline.json.

  check_baseline.py [--baseline FILE] FOLDER             names what differs
  check_baseline.py [--baseline FILE] --suspects FOLDER  programs with such, a line each
  check_baseline.py [--baseline FILE] --update FOLDER    makes these the baseline

FOLDER has Google Benchmark's JSON, PROGRAM.N.json, of one or more runs of each
program. A figure of a run is the smallest CPU time of its repetitions, divided
by that of BM_Calibration in it. Runs of a program differ by some per cent, as
its memory happens to lie; a figure differs from the baseline when those of all
runs do, in the same direction. Exit code: 0 all within 10 %; 1 some differ; 2
the machine was too uneven to say.
"""
import argparse
import collections
import json
import os
import statistics
import sys

TOLERANCE = 0.10
# The calibration in the first and in the last program, and the middle and the
# best of its repetitions in each, may differ by this much.
MAX_DRIFT = 0.10
CALIBRATION = "BM_Calibration"
NANOS = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}


def read(folder):
    """{program: [{bench: [nanoseconds of each repetition]} of each run]}."""
    results = {}
    for name in sorted(name for name in os.listdir(folder) if name.endswith(".json")):
        with open(os.path.join(folder, name)) as file:
            runs = json.load(file)["benchmarks"]
        benches = collections.defaultdict(list)
        for run in runs:
            if run["run_type"] == "iteration" and not run.get("error_occurred"):
                bench = run["name"].removesuffix("/repeats:%d" % run.get("repetitions", 0))
                benches[bench].append(run["cpu_time"] * NANOS[run["time_unit"]])
        results.setdefault(name.split(".")[0], []).append(benches)
    return results


def ratios(results):
    """{"program bench": [figure of each run]}"""
    found = collections.defaultdict(list)
    for program, runs in results.items():
        for benches in runs:
            unit = min(benches[CALIBRATION])
            for name, times in benches.items():
                if name != CALIBRATION:
                    found["%s %s" % (program, name)].append(min(times) / unit)
    return found


def drift(results):
    """Largest relative difference of what should be the same, and what it is."""
    worst, what = 0.0, ""
    best = {}
    for program, runs in results.items():
        for number, benches in enumerate(runs, 1):
            run = "%s, run %d" % (program, number)
            best[run] = min(benches[CALIBRATION])
            spread = statistics.median(benches[CALIBRATION]) / best[run] - 1
            if spread > worst:
                worst, what = spread, "between repetitions in %s" % run
    low, high = min(best, key=best.get), max(best, key=best.get)
    if best[high] / best[low] - 1 > worst:
        worst, what = best[high] / best[low] - 1, "between %s and %s" % (low, high)
    return worst, what


def differences(found, baseline, programs):
    """Lines about what is not as in the baseline, with its program."""
    for name in sorted(set(found) | set(baseline)):
        program = name.split()[0]
        if program not in programs:
            continue
        if name not in baseline:
            yield program, "%-58s is not in the baseline" % name, False
        elif name not in found:
            yield program, "%-58s is in the baseline and was not run" % name, False
        else:
            changes = [figure / baseline[name] - 1 for figure in found[name]]
            if min(changes) > TOLERANCE or max(changes) < -TOLERANCE:
                figure = statistics.median(found[name])
                yield program, "%-58s %8.3f -> %8.3f, %+.0f %%, %s" % (
                    name, baseline[name], figure, 100 * (figure / baseline[name] - 1),
                    "slower" if changes[0] > 0 else "faster"), True


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = os.path.join(os.path.dirname(os.path.abspath(__file__)), "baseline.json")
    parser.add_argument("--baseline", default=default)
    parser.add_argument("--suspects", action="store_true")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("folder")
    arguments = parser.parse_args()
    results = read(arguments.folder)
    if not results:
        sys.exit("no results in %s" % arguments.folder)
    found = ratios(results)
    baseline = {}
    if os.path.exists(arguments.baseline):
        with open(arguments.baseline) as file:
            baseline = json.load(file)["ratios"]
    different = list(differences(found, baseline, results))
    if arguments.suspects:
        print("".join(p + "\n" for p in sorted({p for p, _, timed in different if timed})), end="")
        return 0

    uneven, what = drift(results)
    if arguments.update:
        kept = {n: r for n, r in baseline.items() if n.split()[0] not in results}
        kept.update({name: float("%.4g" % statistics.median(of_runs))
                     for name, of_runs in found.items()})
        with open(arguments.baseline, "w") as file:
            json.dump({"unit": "CPU time of one iteration / that of BM_Calibration",
                       "ratios": dict(sorted(kept.items()))}, file, indent=1)
            file.write("\n")
        print("%d figures written to %s; the calibration differed by %.0f %%%s" % (
            len(found), arguments.baseline, 100 * uneven, " " + what if what else ""))
        return 0
    for _, line, _ in different:
        print(line)
    print("%d figures, %d not as in the baseline (within %.0f %%)" % (
        len(found), len(different), 100 * TOLERANCE))
    if uneven > MAX_DRIFT:
        print("the machine was too uneven to say: the calibration itself differs by %.0f %% %s" % (
            100 * uneven, what))
        return 2 if different else 0
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
