#!/usr/bin/env bash
# What a GPU does with our supernets, in at most eight minutes; see device.py, which gets all arguments.
set -euo pipefail
cd "$(dirname "$0")/.."
exec timeout --kill-after=10 480 python benchmarks/device.py "$@"
