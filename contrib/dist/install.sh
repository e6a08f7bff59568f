#!/bin/sh
# Lays the program and what belongs to it out below DESTDIR PREFIX, as systemd and
# man(1) look for it.
#
#     install.sh PROGRAM DESTDIR PREFIX [SPEAKER]
#
# SPEAKER is the same program for this machine, where PROGRAM is for another.
set -eu
cd "$(dirname "$0")/../.."
if ! test -x "$1"; then
  echo "install: there is no $1; build it first, as the user that you are: make build" >&2
  exit 1
fi
to="$2$3"
install -D -m 0755 "$1" "$to/bin/graph-relay"
for unit in graph-relay.service graph-relay.socket; do
  install -d "$to/lib/systemd/system"
  sed "s|/usr/local/bin/|$3/bin/|" "contrib/systemd/$unit" >"$to/lib/systemd/system/$unit"
  chmod 0644 "$to/lib/systemd/system/$unit"
done
speaker="${4:-$1}"
# What it says of itself, for everybody to read, whatever the umask.
says() {
  install -d "$(dirname "$to/share/$1")"
  "$speaker" $2 >"$to/share/$1"
  chmod 0644 "$to/share/$1"
}
says man/man1/graph-relay.1 manual
says bash-completion/completions/graph-relay 'completions bash'
says zsh/site-functions/_graph-relay 'completions zsh'
says fish/vendor_completions.d/graph-relay.fish 'completions fish'
# The documents and what they refer to, as they lie here.
for file in *.md LICENSE docs/*.md examples/* contrib/*/*; do
  case "$file" in contrib/dist/* | contrib/systemd/*.s*) continue ;; esac
  install -D -m 0644 "$file" "$to/share/doc/graph-relay/$file"
done
