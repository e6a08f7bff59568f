#!/usr/bin/env python3
"""Packs an executable as Lambda wants it: pack.py EXECUTABLE ZIP

The same executable gives the same bytes: no time and no owner of this machine
goes into the file.
"""
import sys
import zipfile

executable, target = sys.argv[1:]
entry = zipfile.ZipInfo("bootstrap", date_time=(1980, 1, 1, 0, 0, 0))
entry.create_system = 3  # Unix, so that the mode counts
entry.external_attr = 0o100755 << 16
entry.compress_type = zipfile.ZIP_DEFLATED
with open(executable, "rb") as file, zipfile.ZipFile(target, "w") as archive:
    archive.writestr(entry, file.read(), compresslevel=6)
