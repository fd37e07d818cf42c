#!/usr/bin/env python3
"""Draws what `compare.sh --curve` measured: puts, ours and etcd's.

usage: plot.py FOLDER [OUT]

OUT-throughput.svg: operations a second against requests in flight (closed
loops). OUT-latency.svg: p50 and p99 against operations a second (open loops).
The median of the rounds; OUT is FOLDER/plot when it is not given.
"""
import json
import math
import os
import statistics
import sys

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 740, 360, 70, 170, 30, 50
LINES = (
    ("etcd", "unary", "etcd", "#7f8c8d"),
    ("kv739", "unary", "kv739 unary", "#2980b9"),
    ("kv739", "threads", "kv739 threads", "#27ae60"),
    ("kv739", "async", "kv739 async", "#c0392b"),
)


def read(folder, kind):
    """{(system, mode): {point: [results of the rounds]}} of the files KIND-MODE-POINT."""
    found = {}
    for name in sorted(os.listdir(folder)):
        if name.startswith(kind + "-") and name.endswith(".json"):
            row, system, _, _ = name.rsplit(".", 3)
            _, mode, point = row.split("-")
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                result = json.load(file)
            if result["ops"]:
                found.setdefault((system, mode), {}).setdefault(float(point), []).append(result)
    return found


def middle(results, field):
    return statistics.median(result[field] for result in results)


class Axis:
    """From values to places, by their logarithm when they span a lot."""

    def __init__(self, values, begin, end, logarithmic):
        self.begin, self.end, self.logarithmic = begin, end, logarithmic
        if logarithmic:
            self.low = 10 ** math.floor(math.log10(min(values)))
            self.high = max(10 ** math.ceil(math.log10(max(values))), 10 * self.low)
            decades = round(math.log10(self.high / self.low))
            self.ticks = [self.low * 10 ** i for i in range(decades + 1)]
        else:
            step = 10 ** math.floor(math.log10(max(values)))
            step = next(s for s in (step / 5, step / 2, step, step * 2) if max(values) / s <= 8)
            self.low, self.high = 0, (max(values) // step + 1) * step
            self.ticks = [step * i for i in range(round(self.high / step) + 1)]

    def at(self, value):
        if self.logarithmic:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = value / self.high
        return self.begin + share * (self.end - self.begin)


def label(value):
    return "%gk" % (value / 1000) if value >= 1000 else "%g" % value


def picture(series, x_title, y_title, log_x, log_y):
    """SVG of [(name, colour, dashes, [(x, y)])]."""
    xs = [x for *_, points in series for x, _ in points]
    ys = [y for *_, points in series for _, y in points]
    x = Axis(xs, LEFT, WIDTH - RIGHT, log_x)
    y = Axis(ys, HEIGHT - BOTTOM, TOP, log_y)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for tick in y.ticks:
        at = y.at(tick)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{label(tick)}</text>')
    for tick in x.ticks:
        at = x.at(tick)
        out.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#eee"/>')
        out.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{label(tick)}</text>')
    centre = (LEFT + WIDTH - RIGHT) / 2
    out.append(f'<text x="{centre}" y="{HEIGHT - 10}" text-anchor="middle">{x_title}</text>')
    out.append(f'<text x="16" y="{HEIGHT / 2}" transform="rotate(-90 16 {HEIGHT / 2})" '
               f'text-anchor="middle">{y_title}</text>')
    for i, (name, colour, dashes, points) in enumerate(series):
        places = [(x.at(a), y.at(b)) for a, b in points]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        style = f'stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dashes}"'
        out.append(f'<polyline points="{line}" fill="none" {style}/>')
        for a, b in places:
            out.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="{colour}"/>')
        at = TOP + 14 + 18 * i
        left = WIDTH - RIGHT + 12
        out.append(f'<line x1="{left}" x2="{left + 20}" y1="{at - 4}" y2="{at - 4}" {style}/>')
        out.append(f'<text x="{left + 26}" y="{at}">{name}</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"


def throughput(folder):
    found = read(folder, "curve")
    return [(name, colour, "none",
             [(n, middle(r, "ops_per_second")) for n, r in sorted(found[system, mode].items())])
            for system, mode, name, colour in LINES if (system, mode) in found]


def latency(folder):
    found = read(folder, "open")
    series = []
    for system, mode, name, colour in LINES:
        for field, suffix, dashes in (("p50_ms", "p50", "none"), ("p99_ms", "p99", "5 3")):
            if (system, mode) in found:
                series.append((f"{name} {suffix}", colour, dashes, sorted(
                    (middle(r, "ops_per_second"), middle(r, field))
                    for r in found[system, mode].values())))
    return series


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    folder = sys.argv[1]
    out = sys.argv[2] if len(sys.argv) == 3 else os.path.join(folder, "plot")
    pictures = (
        ("throughput", throughput(folder), "requests in flight", "puts a second", True, False),
        ("latency", latency(folder), "puts a second", "ms from the intended start", True, True),
    )
    for name, series, *titles in pictures:
        if not series:
            sys.exit("%s has no results for the picture of %s: compare.sh --curve" % (folder, name))
        with open(f"{out}-{name}.svg", "w", encoding="utf-8") as file:
            file.write(picture(series, *titles))
        print(f"{out}-{name}.svg")


if __name__ == "__main__":
    main()
