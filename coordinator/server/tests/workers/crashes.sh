#!/bin/sh
echo "error: the disk is on fire"
exit 3
