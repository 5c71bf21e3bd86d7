"""One scene becomes one map, resumable."""
