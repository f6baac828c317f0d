#!/bin/sh
# Ends well on SIGTERM.
trap 'echo drained; exit 0' TERM
echo ready "$TRAINCTL_WORKER_TOKEN"
# Nothing that outlives it by more than a moment.
while :; do sleep 1 & wait $!; done
