#!/usr/bin/env bash
# Builds the program as one static executable and prints its path.
#
#     static.sh [--target]        --target: prints the target, and builds nothing
#
# With musl where this machine can build with it, else with glibc; why is told on
# standard error. TARGET in the environment asks for a target, such as
# aarch64-unknown-linux-musl on a machine of another kind. RUSTFLAGS are added to.
# Whether a compiler and a linker do is found by trying them.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { echo "static: $*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null; }

host="$(rustc -vV | sed -n 's/^host: //p')"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

# use TARGET: sets target, compiler, linker (the flags for rustc) and reason; false,
# and why in reason, if this machine cannot build for it.
use() {
  target="$1" compiler='' linker='' reason=''
  local machine="${target%%-*}" native= own flags packed
  [ "$machine" != "${host%%-*}" ] || native=1
  if ! [ -d "$(rustc --print target-libdir --target "$target" 2>/dev/null)" ]; then
    reason="Rust's library for $target is not installed (rustup target add $target)"
    return 1
  fi
  # `ring` compiles C. It calls nothing of a C library but what any has, so that
  # the headers of glibc do for musl too.
  own="CC_${target//-/_}"
  local compilers=("${!own:-}")
  case "$target" in *-musl) compilers+=("$machine-linux-musl-gcc" ${native:+musl-gcc}) ;; esac
  compilers+=(${native:+cc} "$machine-linux-gnu-gcc" clang)
  for compiler in "${compilers[@]}"; do
    [ -n "$compiler" ] && have "$compiler" && compiles && break
    compiler=''
  done
  if [ -z "$compiler" ]; then
    reason="there is no C compiler for $target (on Debian: $(package "$machine" "$native"); or set $own)"
    return 1
  fi
  # Rust's own lld links what needs no C library of this machine. It and gold fold
  # functions that are the same; a linker that has no such option links without it.
  local attempts=("-C linker=$compiler -C link-arg=-Wl,--icf=all" "-C linker=$compiler")
  # With no linker named, rustc takes its own choice, which is lld where it has that.
  [ -z "$native" ] || attempts=('-C link-arg=-Wl,--icf=all' "${attempts[@]}")
  case "$target" in *-musl) attempts=('-C linker=rust-lld -C link-arg=--icf=all' "${attempts[@]}") ;; esac
  # Packed relocations save 120 KB. A glibc before 2.36 and a musl before 1.2.4 would not
  # apply them, which only running the program tells.
  for flags in "${attempts[@]}"; do
    for packed in ${native:+'-C link-arg=-z -C link-arg=pack-relative-relocs'} ''; do
      linker="-C target-feature=+crt-static $flags $packed"
      ! links "$native" || return 0
    done
  done
  reason="no static program for $target can be linked: $(tail -n 1 "$scratch/complaint")"
  return 1
}

compiles() {
  local triple=()
  case "$compiler" in *clang*) triple=("--target=$target") ;; esac
  echo 'int f(void) { return 0; }' |
    "$compiler" ${triple[@]+"${triple[@]}"} -c -x c -o "$scratch/c.o" - 2>/dev/null
}

# links NATIVE: true if a program can be linked and, where this machine can, be run.
links() {
  # shellcheck disable=SC2086 # They are several words.
  echo 'fn main() {}' |
    rustc --target "$target" $linker -o "$scratch/linked" - 2>"$scratch/complaint" || return 1
  [ -z "$1" ] || "$scratch/linked" 2>>"$scratch/complaint"
}

package() { if [ -n "$2" ]; then echo gcc; else echo "gcc-${1/_/-}-linux-gnu"; fi; }

if [ -n "${TARGET:-}" ]; then
  use "$TARGET" || fail "$reason"
else
  machine="${host%%-*}"
  if ! use "$machine-unknown-linux-musl"; then
    say "not with musl: $reason"
    use "$machine-unknown-linux-gnu" || use "$host" || fail "$reason"
  fi
fi
if [ "${1:-}" = --target ]; then
  echo "$target"
  exit
fi
say "$target, C compiled by $compiler, linked with $linker"

# glibc's checking variants of memcpy and the like are not in musl.
flags="CFLAGS_${target//-/_}"
export "CC_${target//-/_}=$compiler" "$flags=${!flags:-} -U_FORTIFY_SOURCE" RUSTFLAGS="${RUSTFLAGS:-} $linker"
cargo build --locked --quiet --profile dist --target "$target" --bin graph-relay \
  --no-default-features --features cli >&2
echo "${CARGO_TARGET_DIR:-target}/$target/dist/graph-relay"
