#!/bin/sh
# Stands for a worker: says its pid and its token, so that the test can speak for it, and ends well on SIGTERM.
trap 'exit 0' TERM
echo "pid $$"
echo "token $TRAINCTL_WORKER_TOKEN"
# The last argument is the coordinator's file: when its folder is gone, so is the test, however it ended.
for file; do :; done
home=${file%/*}
# Nothing that outlives it by more than a moment.
while [ -d "$home" ]; do sleep 1 & wait $!; done
