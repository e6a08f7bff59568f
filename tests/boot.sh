#!/bin/bash
# What is installed, on a machine with systemd: a copy of this one (an overlay that is
# thrown away) boots under systemd-nspawn, without a network, and in it the steps of
# README and docs/systemd.md are done. $1 is the program. Needs root, systemd-nspawn,
# nginx, curl, openssl and python3. Skipped where no such machine can be booted, as in
# a container without privileges: until it is up, nothing of the relay's has run.
set -euo pipefail
program="$(realpath "$1")"
cd "$(dirname "$0")/.."
for tool in systemd-nspawn nsenter nginx curl openssl python3; do
  if ! PATH="$PATH:/usr/sbin" command -v "$tool" >/dev/null; then
    echo "skipped: boot: $tool is not installed"
    exit 0
  fi
done
folder="$(mktemp -d)"
finish() {
  if [ -n "${machine:-}" ]; then
    kill -KILL ${init:-"$machine"} 2>/dev/null || true
    wait "$machine" || true
  fi
  ! mountpoint -q "$folder/root" || umount "$folder/root"
  umount "$folder"
  rmdir "$folder"
}
if ! mount -t tmpfs tmpfs "$folder" 2>/dev/null; then
  echo 'skipped: boot: this user may not mount anything'
  rmdir "$folder"
  exit 0
fi
trap finish EXIT
mkdir "$folder/upper" "$folder/work" "$folder/root"
if ! mount -t overlay overlay "$folder/root" \
  -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" 2>/dev/null; then
  echo 'skipped: boot: no overlay can be mounted over the root file system'
  exit 0
fi
root="$folder/root"

sh contrib/dist/install.sh "$program" "$root" /usr/local
# Nothing of this machine's own beside it.
rm -rf "$root/etc/graph-relay" "$root"/etc/nginx/{conf.d,sites-enabled}/*
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
  -subj /CN=relay.example -keyout "$root/etc/ssl/private/relay.example.key" \
  -out "$root/etc/ssl/relay.example.pem" 2>/dev/null
cp tests/boot-steps.sh "$root/usr/local/bin/"

SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --directory="$root" \
  --machine="graph-relay-$$" --register=no --keep-unit --private-network \
  --console=read-only --boot systemd.unit=basic.target >"$folder/console" 2>&1 &
machine=$!
# The machine's own /run, where its systemd listens, is not seen from here.
inside() { nsenter --target "$init" --all --root --wdns=/ -- env -i PATH="$PATH:/usr/sbin" "$@"; }
init=
is_up() {
  init="$(cat "/proc/$machine/task/$machine/children" 2>/dev/null)" && [ -n "${init%% *}" ] &&
    init="${init%% *}" && inside systemctl is-active --quiet basic.target 2>/dev/null
}
for _ in $(seq 300); do
  if up=yes && is_up; then break; fi
  up=no
  # It ends at once where it may not start.
  kill -0 "$machine" 2>/dev/null || break
  sleep 0.1
done
if [ "$up" = no ]; then
  echo "skipped: boot: systemd-nspawn cannot boot a machine here: $(tail -n 1 "$folder/console")"
  exit 0
fi
inside bash /usr/local/bin/boot-steps.sh
