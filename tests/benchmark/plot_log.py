#!/usr/bin/env python3
"""Draws what `upkeep_bench log` prints: sizes over the number of puts.

usage: plot_log.py FILE.csv > FILE.svg
"""
import csv
import sys

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 320, 60, 170, 20, 45
LINES = (
    ("log_mib", "log in use", "#c0392b"),
    ("log_files_mib", "files of the log", "#e67e22"),
    ("store_mib", "store", "#2980b9"),
    ("rss_mib", "memory", "#7f8c8d"),
)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    top = max(max(row[name] for row in rows) for name, _, _ in LINES)
    step = next(s for s in (10, 25, 50, 100, 200, 500, 1000, 5000) if top / s <= 8)
    top = (top // step + 1) * step
    most = rows[-1]["puts"]

    def x(puts):
        return LEFT + puts / most * (WIDTH - LEFT - RIGHT)

    def y(mib):
        return HEIGHT - BOTTOM - mib / top * (HEIGHT - TOP - BOTTOM)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for i in range(int(top / step) + 1):
        at = y(i * step)
        out.append(f'<line x1="{LEFT}" x2="{x(most):.0f}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{i * step}</text>')
    for i in range(6):
        puts = most * i / 5
        out.append(f'<text x="{x(puts):.0f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{puts / 1000:.0f}k</text>')
    out.append(f'<text x="{x(most / 2):.0f}" y="{HEIGHT - 8}" text-anchor="middle">puts</text>')
    out.append(f'<text x="14" y="{HEIGHT / 2}" transform="rotate(-90 14 {HEIGHT / 2})" text-anchor="middle">MiB, largest of five servers</text>')
    for i, (name, label, colour) in enumerate(LINES):
        points = " ".join(f'{x(row["puts"]):.1f},{y(row[name]):.1f}' for row in rows)
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        at = TOP + 14 + 18 * i
        out.append(f'<line x1="{x(most) + 12:.0f}" x2="{x(most) + 32:.0f}" y1="{at - 4}" y2="{at - 4}" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="{x(most) + 38:.0f}" y="{at}">{label}</text>')
    out.append("</svg>")
    print("\n".join(out))


if __name__ == "__main__":
    main()
