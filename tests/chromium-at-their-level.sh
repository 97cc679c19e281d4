#!/bin/sh
# Chromium without the right to go before others. For root it takes that for its process that
# computes WebGPU in software, and then nothing else on the machine keeps any time limit.
exec setpriv --bounding-set=-sys_nice --inh-caps=-sys_nice "$CHROMIUM" "$@"
