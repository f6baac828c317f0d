#!/bin/sh
# Stands for a worker: says its pid and its token, so that the test can speak for it, and ends well on SIGTERM.
trap 'exit 0' TERM
echo "pid $$"
echo "token $TRAINCTL_WORKER_TOKEN"
# Nothing that outlives it by more than a moment.
while :; do sleep 1 & wait $!; done
