#!/bin/sh
# confined.sh ROOT [SOURCE:TARGET[:ro]]... -- COMMAND...: runs a command in the root of an image as the
# chart and compose.yaml do: read-only, /tmp a tmpfs, user 10001, no capabilities, no new privileges.
# The image stays as it is. Begins in namespaces of its own: unshare --mount --pid --ipc --fork --kill-child
set -eu
mount -t tmpfs tmpfs /mnt
mkdir /mnt/layer /mnt/work /mnt/root
mount -t overlay overlay -o "lowerdir=$1,upperdir=/mnt/layer,workdir=/mnt/work" /mnt/root
root=/mnt/root
shift
while [ "$1" != -- ]; do
  source=${1%%:*} target=${1#*:}
  mkdir -p "$root$(dirname "${target%:ro}")"
  if [ -d "$source" ]; then mkdir -p "$root${target%:ro}"; else touch "$root${target%:ro}"; fi
  mount --bind "$source" "$root${target%:ro}"
  if [ "$target" != "${target%:ro}" ]; then mount -o remount,bind,ro "$root${target%:ro}"; fi
  shift
done
shift
mount -o remount,ro "$root"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" /usr/bin/setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs \
  --inh-caps=-all --bounding-set=-all /usr/bin/env -i PATH=/opt/abhinaya/bin:/usr/bin:/bin HOME=/tmp \
  XDG_CACHE_HOME=/tmp/cache PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 "$@"
