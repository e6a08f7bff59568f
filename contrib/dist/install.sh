#!/bin/sh
# Lays the program and what belongs to it out below DESTDIR PREFIX, as systemd and
# man(1) look for it.
#
#     install.sh PROGRAM DESTDIR PREFIX [SPEAKER]
#
# SPEAKER is the same program for this machine, where PROGRAM is for another.
set -eu
cd "$(dirname "$0")/../.."
to="$2$3"
install -D -m 0755 "$1" "$to/bin/graph-relay"
for unit in graph-relay.service graph-relay.socket; do
  install -d "$to/lib/systemd/system"
  sed "s|/usr/local/bin/|$3/bin/|" "contrib/systemd/$unit" >"$to/lib/systemd/system/$unit"
  chmod 0644 "$to/lib/systemd/system/$unit"
done
# What it says of itself.
speaker="${4:-$1}"
says() { mkdir -p "$(dirname "$to/share/$1")" && "$speaker" $2 >"$to/share/$1"; }
says man/man1/graph-relay.1 manual
says bash-completion/completions/graph-relay 'completions bash'
says zsh/site-functions/_graph-relay 'completions zsh'
says fish/vendor_completions.d/graph-relay.fish 'completions fish'
install -D -m 0644 contrib/systemd/graph-relay.env "$to/share/graph-relay/graph-relay.env"
# Further examples, each in its folder.
for folder in contrib/nginx; do
  test -d "$folder" || continue
  for file in "$folder"/*; do
    install -D -m 0644 "$file" "$to/share/graph-relay/${folder#contrib/}/$(basename "$file")"
  done
done
for file in README.md CHANGELOG.md LICENSE docs/*.md; do
  install -D -m 0644 "$file" "$to/share/doc/graph-relay/$file"
done
