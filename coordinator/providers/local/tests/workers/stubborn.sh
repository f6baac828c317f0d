#!/bin/sh
# Ignores SIGTERM, and so does its child.
trap '' TERM
sleep 60 &
echo "ready $!"
wait
