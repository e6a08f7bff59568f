#!/usr/bin/env bash
# Makes the release of the last commit in target/dist: one static program, proved
# to be that, and packed with what belongs to it. Everything is built twice, in two
# places, and has to come out the same to the byte.
#
# Needs git, Python 3.11, and for the whole proof root and openssl.
set -euo pipefail
cd "$(dirname "$0")/../.."

lacks() { echo "dist: $*" >&2; exit 1; }
command -v git >/dev/null || lacks 'git is not installed'
python3 -c 'import tomllib' 2>/dev/null || lacks 'Python 3.11 or newer, with its whole library, is not installed'
if [ "$(id -u)" = 0 ]; then
  command -v openssl >/dev/null || lacks 'openssl is not installed; as root, the look-up by TLS is tried'
fi

TARGET="$(bash contrib/dist/static.sh --target)"
export TARGET
version="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)"
name="graph-relay-$version-$TARGET"
commit="$(git rev-parse HEAD)"
# The time of every file in it, and of the bill of materials.
epoch="${SOURCE_DATE_EPOCH:-$(git show -s --format=%ct "$commit")}"
if ! git diff --quiet HEAD; then
  echo 'dist: of the last commit; what is not committed is not in it' >&2
fi

# make_in PLACE: builds the commit there, and packs it into PLACE/$name.tar.gz.
make_in() {
  local place="$1" program speaker
  mkdir -p "$place/source"
  git archive "$commit" | tar -x -C "$place/source"
  # No path of this machine is in the program, so that it does not depend on one.
  (
    cd "$place/source"
    export CARGO_TARGET_DIR="$place/target" CARGO_INCREMENTAL=0
    program="$(RUSTFLAGS="--remap-path-prefix=$place/source=/graph-relay \
      --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" bash contrib/dist/static.sh)"
    # The manual and the completions come from a program; one for another machine
    # cannot be asked.
    speaker="$program"
    if ! "$program" help >/dev/null 2>&1; then
      cargo build --locked --quiet --bin graph-relay --no-default-features --features cli
      speaker="$CARGO_TARGET_DIR/debug/graph-relay"
    fi
    sh contrib/dist/install.sh "$program" "$place" "/$name" "$speaker"
    python3 contrib/dist/sbom.py "$TARGET" "$epoch" \
      >"$place/$name/share/doc/graph-relay/graph-relay.cdx.json"
  )
  # It is for /usr/local.
  sed -i "s|/$name/bin/|/usr/local/bin/|" "$place/$name/lib/systemd/system/graph-relay.service"
  # Files alone: where it is unpacked, the directories stay as they are.
  (cd "$place" && find "$name" -type f | LC_ALL=C sort) |
    tar -C "$place" --files-from=- --format=gnu --owner=0 --group=0 --numeric-owner \
      --mtime="@$epoch" --mode=u+rwX,go+rX,go-w -cf - | gzip -9n >"$place/$name.tar.gz"
}

place="$(mktemp -d)"
trap 'rm -rf "$place"' EXIT
make_in "$place/one"
python3 contrib/dist/prove.py "$place/one/$name/bin/graph-relay" "$TARGET"
# A path of another length, since that shows as well.
make_in "$place/another/one"
cmp "$place/one/$name.tar.gz" "$place/another/one/$name.tar.gz"
echo "built twice, the same to the byte; whoever would build it again needs $(rustc --version)"

mkdir -p target/dist
cp "$place/one/$name.tar.gz" target/dist/
(cd target/dist && sha256sum "$name.tar.gz" >SHA256SUMS && ls -l "$name.tar.gz" && cat SHA256SUMS)
