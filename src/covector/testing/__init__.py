"""Tools to test programs, primitives and backends with: yours as well as ours."""
