#!/usr/bin/env python3
"""The table of compare.sh, as markdown, from the folder with its results.

usage: compare_table.py FOLDER

Ratios are taken within a round, ours to etcd's of the same minutes; median,
lowest and highest of the rounds.
"""
import json
import os
import statistics
import sys

# Row: what it is called, the figure that is compared, its unit and scale.
RATE = ("ops_per_second", "k/s", 1e-3)
ROWS = {
    "put-unary-1": ("put, unary gRPC, 1 in flight, p50", ("p50_ms", "ms", 1)),
    "put-unary-64": ("put, unary gRPC, 64 in flight", RATE),
    "put-unary-256": ("put, unary gRPC, 256 in flight", RATE),
    "put-threads-64": ("put, 64 threads of lib739kv", RATE),
    "put-async-1000": ("put, lib739kv asynchronous, 1000 in flight", RATE),
    "get-unary-64": ("linearizable get, unary gRPC, 64 in flight", RATE),
    "get-threads-64": ("linearizable get, 64 threads of lib739kv", RATE),
    "a-threads-64": ("YCSB A, 64 threads", RATE),
    "b-threads-64": ("YCSB B, 64 threads", RATE),
    "c-threads-64": ("YCSB C, 64 threads", RATE),
    "e-threads-64": ("YCSB E (scans in the order of the store; etcd: of the keys), 64 threads", RATE),
    "f-threads-64": ("YCSB F, 64 threads", RATE),
    "p99": ("put, unary gRPC, at etcd's saturation, p99", ("p99_ms", "ms", 1)),
}


def read(folder):
    """{row: {system: {round: result}}}"""
    results = {}
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".json"):
            continue
        row, system, number, _ = name.rsplit(".", 3)
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            result = json.load(file)
        result["counters"] = counters(os.path.join(folder, name[:-5] + ".metrics"))
        results.setdefault(row, {}).setdefault(system, {})[int(number)] = result
    return results


def counters(path):
    """How much each counter grew; {} when there is no such file."""
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        before, after = (dict(line.split() for line in part.strip().splitlines())
                         for part in file.read().split("---\n"))
    return {name: float(after[name]) - float(before.get(name, 0)) for name in after}


def middle(values, form):
    if not values:
        return "–"
    low, high = form % min(values), form % max(values)
    text = form % statistics.median(values)
    return text if len(values) == 1 else "%s (%s…%s)" % (text, low, high)


def ratios(systems, value):
    """Of the rounds that both have."""
    ours, theirs = systems.get("kv739", {}), systems.get("etcd", {})
    return [value(ours[r]) / value(theirs[r]) for r in sorted(ours)
            if r in theirs and value(theirs[r]) > 0]


def cpu(result):
    return result["cpu"]["server_us_per_op"] + result["cpu"]["client_us_per_op"]


def entries_per_sync(result):
    """Over all servers; -1 when nothing was synced."""
    syncs = result["counters"].get("kv739_wal_syncs_total", 0)
    return result["counters"]["kv739_wal_entries_total"] / syncs if syncs else -1


def trouble(systems):
    parts = []
    for system, rounds in sorted(systems.items()):
        for what in ("errors", "unknown", "not_found", "dropped"):
            count = sum(result[what] for result in rounds.values())
            if count:
                parts.append("%s: %d %s" % (system, count, what))
    return ", ".join(parts)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    results = read(sys.argv[1])
    # The row p99 needs one of etcd's that may not have been asked for.
    shown = [row for row in ROWS if {"etcd", "kv739"} <= results.get(row, {}).keys()]
    if not shown:
        sys.exit("no results in %s" % sys.argv[1])
    some = next(iter(next(iter(results[shown[0]].values())).values()))
    etcd = next((r["settings"]["etcd_version"] for r in results[shown[0]].get("etcd", {}).values()), "?")
    rounds = max(len(rounds) for systems in results.values() for rounds in systems.values())
    print("kv739 %s and etcd %s, five members each in turn; %d cores; %d keys, values of %d bytes; "
          "%d round%s of %g s a row: median (lowest…highest).\n" % (
              some["version"], etcd, some["machine"]["cores"], some["settings"]["keys"],
              some["settings"]["value_size"], rounds, "" if rounds == 1 else "s",
              some["settings"]["seconds"]))
    print("| work | unit | etcd | kv739 | kv739 / etcd | CPU µs per op, all processes: etcd, kv739, ratio |"
          " of it servers | entries per sync |")
    print("|---|---|---|---|---|---|---|---|")
    notes = []
    for row in shown:
        title, (field, unit, scale) = ROWS[row]
        systems = results[row]

        def values(system, value):
            return [value(result) for result in systems.get(system, {}).values()]

        form = "%.3g" if unit == "ms" else "%.1f"
        figure = [middle(values(s, lambda r: r[field] * scale), form) for s in ("etcd", "kv739")]
        all_cpu = [middle(values(s, cpu), "%.0f") for s in ("etcd", "kv739")]
        servers = [middle(values(s, lambda r: r["cpu"]["server_us_per_op"]), "%.0f")
                   for s in ("etcd", "kv739")]
        syncs = [value for value in values("kv739", entries_per_sync) if value >= 0]
        writes = not row.startswith(("get", "c-"))
        print("| %s | %s | %s | %s | **%s** | %s, %s, %s | %s, %s | %s |" % (
            title, unit, *figure, middle(ratios(systems, lambda r: r[field]), "%.2f"),
            *all_cpu, middle(ratios(systems, cpu), "%.2f"), *servers,
            middle(syncs, "%.1f") if writes else "–"))
        if trouble(systems):
            notes.append("%s: %s" % (title, trouble(systems)))
    if "p99" in shown:
        rates = [r["settings"]["rate"] for r in results["p99"].get("etcd", {}).values()]
        if rates:
            notes.append("the rate of the row p99 was %s a second" % middle(rates, "%.0f"))
    for note in notes:
        print("\n" + note)


if __name__ == "__main__":
    main()
