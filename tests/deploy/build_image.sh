#!/bin/sh
# build_image.sh FOLDER: builds deploy/Dockerfile without a registry. Its base image is made here, a
# Debian with Python by debootstrap. FOLDER/root is then the root of the image. Needs root.
set -eu
mkdir -p "$1"
folder=$(realpath "$1")
source=$(realpath "$(dirname "$0")/../..")
buildah() { command buildah --root "$folder/store" --runroot "$folder/run" --storage-driver vfs "$@"; }
export BUILDAH_ISOLATION=chroot # no daemon, and no privileges that a container lacks

if ! buildah inspect localhost/base >/dev/null 2>&1; then
  debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$folder/base" >"$folder/base.log"
  ln -sf python3 "$folder/base/usr/bin/python"
  cp /etc/ssl/certs/ca-certificates.crt "$folder/base/etc/ssl/certs/"
  base=$(buildah from scratch)
  buildah copy --quiet "$base" "$folder/base" /
  for name in SSL_CERT_FILE PIP_CERT; do
    buildah config --env "$name=/etc/ssl/certs/ca-certificates.crt" "$base"
  done
  buildah commit --quiet --rm "$base" localhost/base
  rm -rf "$folder/base"
fi
# `.git` and the like do not reach the build: .dockerignore
buildah build --isolation chroot --build-arg BASE=localhost/base \
  --file "$source/deploy/Dockerfile" --tag localhost/abhinaya "$source"
buildah rm --all >/dev/null
buildah rmi --prune >/dev/null
ln -sfn "$(buildah mount "$(buildah from localhost/abhinaya)")" "$folder/root"
buildah images
