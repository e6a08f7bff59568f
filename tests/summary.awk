# Adds up what `cargo test` prints, and ends with its exit status, which comes as
# the last line: "cargo ended with N". A test that cannot do its work here writes
# a line "skipped: …" of its own; it counts as passed to cargo, and not here.
/^cargo ended with [0-9]+$/ { status = $4; next }
/^skipped: / { split($0, part, ": "); if (!seen[part[2]]++) skipped++ }
{ print }
/^test result:/ { passed += $4; failed += $6 }
END {
  if (status == "") status = 1
  if (status == 0 && passed + failed == 0) status = 1
  if (status != 0 && !failed) {
    printf "not all tests ran: cargo ended with %d\n", status
    exit status
  }
  printf "%d passed, %d failed", passed - skipped, failed
  if (skipped) printf ", %d skipped", skipped
  print ""
  exit status
}
