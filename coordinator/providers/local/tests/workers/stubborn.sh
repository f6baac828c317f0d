#!/bin/sh
# Ignores SIGTERM, and so does its child.
trap '' TERM
sleep 600 &
echo "ready $!"
wait
