#!/bin/sh
# confined.sh ROOT COMMAND...: runs a command in the root of an image as Kubernetes does: read-only,
# /tmp a tmpfs, /data a volume, user 10001, no capabilities, no new privileges. In namespaces of its
# own (unshare --mount --pid --net --ipc --fork), so without a network.
set -eu
root=$1
shift
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o uid=10001,gid=10001,mode=0755 tmpfs "$root/data"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
ip link set lo up
exec chroot "$root" /usr/bin/setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs \
  --inh-caps=-all --bounding-set=-all /usr/bin/env -i PATH=/opt/abhinaya/bin:/usr/bin:/bin HOME=/tmp \
  XDG_CACHE_HOME=/tmp/cache PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 "$@"
