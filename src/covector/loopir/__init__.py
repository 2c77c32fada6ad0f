"""The loop IR: scalar values inside structured loops over buffers."""
