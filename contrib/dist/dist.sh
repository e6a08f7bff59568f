#!/usr/bin/env bash
# Makes the release of the last commit in target/dist: one static program, proved
# to be that, and packed with what belongs to it. Everything is built twice, in two
# places, and has to come out the same to the byte.
#
# Needs git, Python 3.11, and for the whole proof root and openssl.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=x86_64-unknown-linux-gnu
if [ -d "$(rustc --print target-libdir --target x86_64-unknown-linux-musl)" ]; then
  target=x86_64-unknown-linux-musl
fi
version="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)"
name="graph-relay-$version-$target"
commit="$(git rev-parse HEAD)"
# The time of every file in it, and of the bill of materials.
epoch="${SOURCE_DATE_EPOCH:-$(git show -s --format=%ct "$commit")}"
if ! git diff --quiet HEAD; then
  echo 'dist: of the last commit; what is not committed is not in it' >&2
fi

# make_in PLACE: builds the commit there, and packs it into PLACE/$name.tar.gz.
make_in() {
  local place="$1" program
  mkdir -p "$place/source"
  git archive "$commit" | tar -x -C "$place/source"
  # No path of this machine is in the program, so that it does not depend on one.
  # The linker folds functions that are the same, and packs what has to be moved.
  (
    cd "$place/source"
    export CARGO_TARGET_DIR="$place/target" CARGO_INCREMENTAL=0
    RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,--icf=all,-z,pack-relative-relocs \
      --remap-path-prefix=$place/source=/graph-relay \
      --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
      cargo build --locked --quiet --profile dist --target "$target" --bin graph-relay \
      --no-default-features --features edges
    program="$CARGO_TARGET_DIR/$target/dist/graph-relay"
    sh contrib/dist/install.sh "$program" "$place" "/$name"
    python3 contrib/dist/sbom.py "$target" "$epoch" \
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
python3 contrib/dist/prove.py "$place/one/$name/bin/graph-relay"
# A path of another length, since that shows as well.
make_in "$place/another/one"
cmp "$place/one/$name.tar.gz" "$place/another/one/$name.tar.gz"
echo 'built twice, the same to the byte'

mkdir -p target/dist
cp "$place/one/$name.tar.gz" target/dist/
(cd target/dist && sha256sum "$name.tar.gz" >SHA256SUMS && ls -l "$name.tar.gz" && cat SHA256SUMS)
