#!/usr/bin/env python3
"""Where the processor time of a cluster goes, from perf.

    perf record -F 999 -g -a -o perf.data -- sleep 10      # while a bench runs
    perf script -i perf.data -F comm,ip,sym,dso | tests/benchmark/profile.py [NAME=perf.txt ...]

Reads what `perf script` prints, from standard input or from files with a name
each, and prints a table as markdown: a row for each part of the work, a column
for each profile, in percent of the time in which processors were busy.
"""
import collections
import sys

# The first part that a stack belongs to counts; `what` is looked for in the
# names of its functions and libraries.
PARTS = [
    ("writing out, flushing, merging", ["BufferedEngine::WriteOut", "Flusher::Run", "rocksdb:low", "rocksdb:high"]),
    ("applying", ["StateMachineImpl::Apply", "BufferTable::"]),
    ("messages between servers", ["PeerConnection::", "PeerLink::", "DecodeMessage", "TcpTransport::Send"]),
    ("log: encoding, writing, syncing", ["WalImpl::"]),
    ("answers to clients, requests from them", ["RpcLoop::", "OperationStream::", "KeyValueService", "libgrpc", "libprotobuf"]),
    ("consensus and its loop", ["Loop::", "Replica::", "raft::"]),
    ("waking, waiting, switching threads", ["futex", "schedule", "epoll_wait", "Poller::", "WalThreadImpl"]),
]
CLIENT = "the client and its load"
SERVERS = "servers, other"
OTHER = "other processes and the kernel by itself"


def samples(lines):
    """(command, text of the stack) of each sample."""
    command, frames = None, []
    for line in lines:
        if not line.strip():
            if command is not None:
                yield command, " ".join(frames)
            command, frames = None, []
        elif not line[0].isspace():
            command = line.strip()
        else:
            frames.append(line.strip())
    if command is not None:
        yield command, " ".join(frames)


def part_of(command, stack):
    if command.startswith("kv739d") or command.startswith("rocksdb:"):
        for name, wanted in PARTS:
            if any(what in stack or what in command for what in wanted):
                return name
        return SERVERS
    return CLIENT if command.startswith("kv739") else OTHER


def profile(lines):
    counts = collections.Counter()
    for command, stack in samples(lines):
        if not command.startswith("swapper"):
            counts[part_of(command, stack)] += 1
    return counts


def main():
    profiles = []
    for argument in sys.argv[1:]:
        name, _, path = argument.partition("=")
        if not path:
            sys.exit(__doc__)
        with open(path, errors="replace") as file:
            profiles.append((name, profile(file)))
    if not profiles:
        profiles = [("share", profile(sys.stdin))]
    if not all(counts for _, counts in profiles):
        sys.exit("profile.py: no samples; what it reads is `perf script -F comm,ip,sym,dso`")
    print("| part | " + " | ".join(name for name, _ in profiles) + " |")
    print("|---|" + "---|" * len(profiles))
    for part in [name for name, _ in PARTS] + [SERVERS, CLIENT, OTHER]:
        shares = (f"{100 * counts[part] / sum(counts.values()):.1f} %" for _, counts in profiles)
        print(f"| {part} | " + " | ".join(shares) + " |")


if __name__ == "__main__":
    main()
