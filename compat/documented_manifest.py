"""Runs the lines of docs/manifest.md on a manifest, as they stand: documented_manifest.py MANIFEST PAGE ROWS UNGROUPED."""
import re
import sys

import duckdb
import pandas
import polars

manifest, page, rows, ungrouped = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with open(page, encoding="utf-8") as file:
    lines = re.search(r"```python\n(.*?)```", file.read(), re.DOTALL).group(1).splitlines()
names = {"pandas": pandas, "duckdb": duckdb, "polars": polars, "manifest": manifest}
table, counts, without_group = (eval(line, names) for line in lines)

assert list(table.columns) == ["key", "label", "group", "split"] and len(table) == rows, table
assert table["group"].isna().sum() == ungrouped, table
assert sum(count for _, count in counts.fetchall()) == rows, counts
assert len(without_group) == ungrouped, without_group

digests = pandas.read_parquet(manifest)["pixelDigest"]
assert all(isinstance(digest, bytes) and len(digest) == 32 for digest in digests)
