#!/bin/bash
# Has the disk of the coordinator's records mounted on /var/lib/trainctl. Makes a file system on it only where there is
# none: the disk outlives the machine, and what an earlier coordinator wrote goes on.
set -euo pipefail

device=$TRAINCTL_RECORDS_DEVICE
folder=${TRAINCTL_RECORDS_FOLDER:-/var/lib/trainctl}
patience_s=${TRAINCTL_RECORDS_PATIENCE_S:-300}

if mountpoint --quiet "$folder"; then
  exit 0
fi
# It is attached after the machine has started.
for ((waited_s = 0; waited_s < patience_s; waited_s++)); do
  [[ ! -e $device ]] || break
  sleep 1
done
[[ -e $device ]] || {
  echo "trainctl: $device: expected a disk for the records, found none within $patience_s s" >&2
  exit 1
}
# A new disk is all zeros. Over anything else no file system is made: then mounting fails, and says why.
if cmp --silent --bytes 1048576 "$device" /dev/zero; then
  mkfs.ext4 -q -L trainctl "$device"
fi
mkdir -p "$folder"
mount -o nodev,nosuid,noexec "$device" "$folder"
install --directory --owner trainctl --group trainctl --mode 0700 "$folder/home"
