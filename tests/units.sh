#!/bin/sh
# The units of contrib/systemd as systemd reads them: no complaint, and an exposure
# of at most 1.3. Checked where systemd is installed. $1 is the program that they
# are to start. It ends with 77 if there is none.
set -eu
cd "$(dirname "$0")/../contrib/systemd"
if ! command -v systemd-analyze >/dev/null; then
  echo 'units: not checked, for want of systemd-analyze'
  exit 77
fi
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
for unit in graph-relay.service graph-relay.socket; do
  sed "s|/usr/local/bin/graph-relay|$1|" "$unit" >"$folder/$unit"
done
# A warning is no failure to systemd, and other units of this machine are no
# business of ours.
verified=0
systemd-analyze verify "$folder"/graph-relay.* >"$folder/complaints" 2>&1 || verified=$?
if grep graph-relay "$folder/complaints" || test "$verified" != 0; then exit 1; fi
secure=0
systemd-analyze security --no-pager --offline=true --threshold=13 \
  "$folder/graph-relay.service" >"$folder/exposure" || secure=$?
tail -n 1 "$folder/exposure"
test "$secure" = 0
